"""Answers to read: what greedy decoding says to each prompt, a line of JSON each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from align_vlms import picture, tiny_llava, tiny_qwen25vl
from eval_doubles import tiny_llama

from contralign.align.batch import Batch
from contralign.align.data import PairCollator
from contralign.align.samples import FILE, answers, append

BATCH = Batch([[5, 6, 7], [8], [9, 10]], [[[11], [12, 13]], [[14], [15]], [[16], [17]]])


def decode(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def greedy(model: Any, prompt: Sequence[int], count: int, end: int = 2) -> list[int]:
    """One token after the other, the most likely one, without a cache."""
    ids = [*prompt]
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == end:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("count", [1, 6])
def test_each_prompt_is_answered_greedily(count: int) -> None:
    model = tiny_llama()
    rows = answers(model, BATCH, decode, max_new_tokens=count)
    assert [row["generated"] for row in rows] == [
        decode(greedy(model, prompt, count)) for prompt in BATCH.prompts
    ]
    assert rows[0] | {"generated": ""} == {
        "prompt": "5 6 7",
        "chosen": "11",
        "rejected": "12 13",
        "generated": "",
    }


def test_a_model_that_would_sample_by_itself_does_not() -> None:
    model = tiny_llama()
    expected = answers(model, BATCH, decode, max_new_tokens=5)
    model.generation_config.update(do_sample=True, temperature=1.5, top_p=0.9, top_k=3)
    assert answers(model, BATCH, decode, max_new_tokens=5) == expected


def test_a_prompt_may_have_one_completion() -> None:
    rows = answers(tiny_llama(), Batch([[5]], [[[6, 7]]]), decode, max_new_tokens=1)
    assert rows[0].keys() == {"prompt", "chosen", "generated"}


@pytest.mark.parametrize("make", [tiny_llava, tiny_qwen25vl])
def test_prompts_are_answered_with_their_own_pictures(make: Any) -> None:
    model, processor = make()
    rows = [
        {
            "images": [picture(seed)],
            "prompt": [{"role": "user", "content": "what?"}],
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [{"role": "assistant", "content": "b"}],
        }
        for seed in (1, 2)
    ]
    batch = PairCollator(processor, None)(rows)["batch"]
    said = answers(model, batch, decode, max_new_tokens=8)
    for prompt, image, row in zip(batch.prompts, batch.images, said, strict=True):
        ids = torch.tensor([prompt])
        kinds = {name: x[None] for name, x in image.items() if x.shape == ids.shape[1:]}
        seen = model.generate(
            input_ids=ids, max_new_tokens=8, do_sample=False, **{**image, **kinds}
        )
        assert row["generated"] == decode(seen[0, len(prompt) :].tolist())
    assert said[0]["prompt"] == said[1]["prompt"]
    assert said[0]["generated"] != said[1]["generated"]


def test_answers_are_added_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    append(folder, 10, "eval", [{"prompt": "é", "generated": "a\nb"}, {"prompt": "c"}])
    append(folder, 20, "eval_other", [{"prompt": "d"}])
    lines = (folder / FILE).read_text("utf-8").splitlines()
    assert "é" in lines[0]
    assert [json.loads(line) for line in lines] == [
        {"step": 10, "data": "eval", "prompt": "é", "generated": "a\nb"},
        {"step": 10, "data": "eval", "prompt": "c"},
        {"step": 20, "data": "eval_other", "prompt": "d"},
    ]
