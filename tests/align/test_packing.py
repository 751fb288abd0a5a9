"""The packed row: what is where, and who sees whom."""

from __future__ import annotations

import torch
from align_models import MODELS, made, ragged

from contralign.align.batch import Batch
from contralign.align.packing import Layout, joined_images, pack, token_types

BACKBONE = made(MODELS["llama"]).base_model


def test_by_hand() -> None:
    row = pack(Batch([[10, 11], [20]], [[[12, 13, 14], [15]], [[21], [22, 23]]]), BACKBONE)
    # The last token of a completion is predicted and never read.
    assert row.inputs["input_ids"].tolist() == [[10, 11, 12, 13, 20, 22]]
    assert row.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    assert row.targets.tolist() == [12, 13, 14, 15, 21, 22, 23]
    assert row.sources.tolist() == [1, 2, 3, 1, 4, 4, 5]
    assert row.layout.groups == (
        (slice(0, 2), (slice(2, 4), slice(4, 4))),
        (slice(4, 5), (slice(5, 5), slice(5, 6))),
    )


def test_completions_see_their_prompt_and_themselves() -> None:
    layout = Layout(((slice(0, 2), (slice(2, 4), slice(4, 5))), (slice(5, 6), (slice(6, 7),))))
    assert layout.visible().int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


def test_a_window_counts_along_the_sequence_not_along_the_row() -> None:
    layout = Layout(((slice(0, 2), (slice(2, 4), slice(4, 6))),))
    assert layout.visible(window=2)[4].tolist() == [False, True, False, False, True, False]


def test_no_token_is_padding_and_each_prompt_stands_once() -> None:
    batch = ragged()
    row = pack(batch, BACKBONE)
    read = sum(len(completion) - 1 for completion in batch.flat)
    assert row.inputs["input_ids"].numel() == sum(map(len, batch.prompts)) + read
    assert len(row.targets) == int(batch.mask.sum())
    assert row.layout.length == row.inputs["input_ids"].numel()


def test_images_are_joined_in_the_order_of_their_prompts() -> None:
    one, two = torch.ones(1, 2, 3), torch.full((1, 1, 3), 2.0)
    batch = Batch(
        [[1], [2]],
        [[[3]], [[4]]],
        [
            {"pixel_values": one, "mm_token_type_ids": torch.tensor([1])},
            {"pixel_values": two, "mm_token_type_ids": torch.tensor([0])},
        ],
    )
    joined = joined_images(batch)
    assert list(joined) == ["pixel_values"]
    # One has fewer tiles: zeros stand for the missing.
    assert joined["pixel_values"][:, :, 0].tolist() == [[1, 1], [2, 0]]
    assert joined_images(batch, 2)["pixel_values"][:, 0, 0].tolist() == [1, 1, 2, 2]
    types = token_types(batch, after=[2, 1], before=[0, 1])
    assert [row.tolist() for row in types["mm_token_type_ids"]] == [[1, 0, 0], [0, 0, 0]]
