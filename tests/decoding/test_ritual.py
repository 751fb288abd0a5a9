"""RITUAL's second look: which transformation, and that it is the prompt's own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from align_vlms import picture
from vision_reference import prompt
from vlms import FAMILIES, family

from contralign.decoding import RITUAL, encode
from contralign.decoding.pictured import Prompts
from contralign.decoding.ritual import drawn, transformed
from contralign.decoding.transformations import TRANSFORMATIONS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = [("What?", [picture(0)]), ("Why then?", [picture(1, 40, 80)])]


def given(reader: Any, rows: Any = ROWS) -> tuple[Any, Any]:
    return [prompt(reader, row) for row in rows], [images for _, images in rows]


def test_each_transformation_is_drawn_as_often_as_another() -> None:
    counts = Counter(drawn(seed) for seed in range(6000))
    assert set(counts) == set(TRANSFORMATIONS)
    # Chi-square with five degrees of freedom, at a level of 1 in 1000.
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 20.5


@pytest.mark.parametrize("name", ["LLaVA-1.5", "Qwen2.5-VL", "Gemma 3", "PaliGemma"])
def test_a_second_look_does_not_depend_on_the_batch(name: str) -> None:
    _, reader = family(name)
    messages, images = given(reader)
    (both,) = RITUAL().branches(reader, messages, images, seeds=[3, 4])
    alone = [
        RITUAL().branches(reader, [m], [i], seeds=[seed])[0]["pixel_values"]
        for m, i, seed in zip(messages, images, [3, 4], strict=True)
    ]
    assert torch.equal(both["pixel_values"], torch.cat(alone))


@pytest.mark.parametrize("change", TRANSFORMATIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_transformation_keeps_the_grid_of_a_picture(name: str, change: str) -> None:
    """As many tokens as before, also where a picture's size decides on their number."""
    _, reader = family(name)
    messages, images = given(reader)
    plain = encode(reader, messages, images)
    looked = transformed(Prompts(reader, messages, images, [1, 2], None), [change] * 2)
    assert torch.equal(looked["input_ids"], plain["input_ids"])
    assert looked["pixel_values"].shape == plain["pixel_values"].shape
    assert not torch.equal(looked["pixel_values"], plain["pixel_values"])


def test_two_equal_looks_are_a_quarter_of_the_temperature() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    kept = RITUAL(cutoff=1e-9)
    assert torch.allclose(kept.rule(logits, logits), 4 * logits)
    assert torch.allclose(RITUAL(cutoff=1e-9, normalize=True).rule(logits, logits), logits)
