"""What rows share is read once, and every logit is that of reading each row by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from align_vlms import picture
from vision_reference import prompt
from vision_table import FAMILIES
from vlms import family

from contralign.decoding import encode, open_image, parse
from contralign.decoding.prefix import Prefixes, shared_length

# transformers 5.23's PaliGemma processor turns tensors to arrays the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

QUESTIONS = ["Is there a cat?", "Is there an elephant?", "Is it?"]
# One looks ahead within the prompt, the other reads its picture with the question in mind.
WHOLE = ("PaliGemma", "InstructBLIP")


def first_logits(
    name: str, method: Any, seeds: list[int], pictures: list[Any] | None = None
) -> tuple[Prefixes, list[torch.Tensor], list[torch.Tensor]]:
    """Twice: the first call compares, the second shares."""
    model, processor = family(name)
    images = [[open_image(x)] for x in pictures or [picture(3, 60, 40)] * 3]
    prompts = [prompt(processor, (text, [1])) for text in QUESTIONS]
    batch = encode(processor, prompts, images)
    branch = method.branches(processor, prompts, images, seeds=seeds, model=model)
    alone = encode(processor, prompts[:1], images[:1])
    first = method.branches(processor, prompts[:1], images[:1], seeds=seeds[:1], model=model)
    prefixes = Prefixes(model)
    whole = prefixes.first_logits(batch, method, branch)
    prefixes.whole = 0
    prefixes.first_logits(batch, method, branch, (alone, first))
    return prefixes, prefixes.first_logits(batch, method, branch, (alone, first)), whole


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["greedy", "vcd", "m3id"])
def test_every_branch_is_as_if_each_row_were_read_alone(name: str, method: str) -> None:
    prefixes, shared, whole = first_logits(name, parse(method).method, [7, 7, 7])
    for mine, theirs in zip(shared, whole, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=1e-3)
    assert (prefixes.whole > 0) == (name in WHOLE)


@pytest.mark.parametrize(
    ("seeds", "pictures"),
    [([1, 2, 3], None), ([7, 7, 7], [picture(3), picture(3), picture(4)])],
    ids=["a noise of its own", "a picture of its own"],
)
def test_rows_that_differ_in_what_they_see_share_nothing_of_it(
    seeds: list[int], pictures: list[Any] | None
) -> None:
    prefixes, shared, whole = first_logits("LLaVA-1.5", parse("vcd").method, seeds, pictures)
    assert (prefixes.shared, prefixes.whole) == ((2, 2) if pictures is None else (0, 4))
    for mine, theirs in zip(shared, whole, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=1e-3)


def test_the_picture_must_be_in_what_is_shared() -> None:
    ids = torch.tensor([[0, 5, 9, 6, 1], [5, 9, 6, 2, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])}
    first = {"input_ids": ids[:1, 1:], "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    assert shared_length(batch, first, places=[9]) == 3
    assert shared_length(batch, first, places=[2]) == 0
    assert shared_length({**batch, "pixels": torch.zeros(2, 1)}, first, places=[]) == 0


def test_equal_rows_keep_their_last_token_to_read() -> None:
    batch = {"input_ids": torch.tensor([[5, 6]] * 3), "attention_mask": torch.ones(3, 2)}
    first = {key: value[:1] for key, value in batch.items()}
    assert shared_length(batch, first, places=[]) == 1
