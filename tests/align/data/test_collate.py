"""Batches of pairs, of text and with images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.utils import find_batch_size, send_to_device
from align_vlms import picture, tiny_llava, tiny_qwen25vl

from contralign.align.data import PairCollator, normalise
from contralign.align.data.encode import encode

ROWS = [
    {"prompt_ids": [1, 2], "completion_ids": [[3], [4, 5]]},
    {"prompt_ids": [6], "completion_ids": [[7, 8, 9], [3]]},
]


def seen(question: str, **columns: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": "A cat."}],
        "rejected": [{"role": "assistant", "content": "A dog."}],
        **columns,
    }


def test_text_is_joined() -> None:
    found = PairCollator()(ROWS)
    batch = found["batch"]
    assert batch.prompts == [[1, 2], [6]]
    assert batch.completions == [[[3], [4, 5]], [[7, 8, 9], [3]]]
    assert (batch.images, batch.columns) == ((), {})


def test_libraries_can_count_and_move_a_batch() -> None:
    found = PairCollator()([{**row, "weight": 1} for row in ROWS])
    assert find_batch_size(found) == 2
    moved = send_to_device(found, "meta")
    assert moved["batch"].columns["weight"].device.type == "meta"
    assert moved["batch"].prompts == [[1, 2], [6]]


def test_numbers_become_tensors() -> None:
    rows = [{**row, "weight": w, "margin": 1 - w} for row, w in zip(ROWS, (0.5, 2), strict=True)]
    columns = PairCollator()(rows)["batch"].columns
    assert {name: column.tolist() for name, column in columns.items()} == {
        "weight": [0.5, 2.0],
        "margin": [0.5, -1.0],
    }
    assert all(column.dtype == torch.float32 for column in columns.values())


@pytest.mark.parametrize("build", [tiny_llava, tiny_qwen25vl])
def test_rows_with_images_are_encoded(build: Any) -> None:
    model, processor = build()
    rows = [
        seen("What is this?", image=picture(0), weight=2),
        seen("<image> or <image>?", images=[picture(1, 90, 90), picture(2)], weight=1),
        seen("Hello?", images=None, weight=1),
    ]
    batch = PairCollator(processor)(rows)["batch"]
    for index, row in enumerate(rows):
        expected = encode(normalise(row), processor)
        assert batch.prompts[index] == expected.prompt
        assert batch.completions[index] == expected.completions
        assert batch.images[index].keys() == expected.images.keys()
    assert batch.columns["weight"].tolist() == [2, 1, 1]

    inputs = {
        name: torch.cat([image[name] for image in batch.images if name in image])
        for name in ("pixel_values", "image_grid_thw")
        if name in batch.images[0]
    }
    features = model.get_image_features(**inputs).pooler_output
    places = sum(prompt.count(processor.image_token_id) for prompt in batch.prompts)
    assert sum(map(len, features)) == places


def test_rows_that_never_have_an_image_have_no_images() -> None:
    _, processor = tiny_llava()
    batch = PairCollator(processor)([seen("Hello?", images=[]), seen("Hi?", images=[])])["batch"]
    assert batch.images == ()


def test_rows_are_left_as_they_were() -> None:
    _, processor = tiny_llava()
    row = seen("What is this?", image=picture(0))
    before = dict(row)
    PairCollator(processor)([row])
    assert row == before


def test_images_are_never_cut() -> None:
    _, processor = tiny_llava()
    rows = [seen("What is this?", image=picture(0))]
    told = r"the row that begins with 'What is this\?' can't be trained on: prompt-too-long, it has"
    with pytest.raises(ValueError, match=told):
        PairCollator(processor, 8)(rows)
    batch = PairCollator(processor, 42)(rows)["batch"]
    assert max(len(batch.prompts[0]) + len(ids) for ids in batch.completions[0]) == 42


def test_refuses() -> None:
    with pytest.raises(
        ValueError, match="takes rows with prompt_ids, got prompt, chosen, rejected"
    ):
        PairCollator()([seen("Hi")])
    with pytest.raises(ValueError, match="all rows of a batch have a weight, or none: 1 of 2 have"):
        PairCollator()([{**ROWS[0], "weight": 1.0}, ROWS[1]])
