"""What a batch refuses, and its mask."""

from __future__ import annotations

import pytest
import torch

from contralign.align.batch import Batch


def test_the_mask_is_true_on_each_completions_tokens() -> None:
    batch = Batch([[1], [2, 3]], [[[4], [5, 6]], [[7, 8, 9], [1]]])
    assert batch.mask.tolist() == [
        [[True, False, False], [True, True, False]],
        [[True, True, True], [True, False, False]],
    ]
    assert (len(batch), batch.k) == (2, 2)
    assert batch.flat == [[4], [5, 6], [7, 8, 9], [1]]


def test_moves_its_tensors_and_nothing_else() -> None:
    batch = Batch([[1]], [[[2]]], [{"pixel_values": torch.ones(1)}], {"weight": torch.ones(1)})
    moved = batch.to("meta")
    assert moved.images[0]["pixel_values"].is_meta
    assert moved.columns["weight"].is_meta
    assert moved.prompts == [[1]]


@pytest.mark.parametrize(
    ("prompts", "completions", "why"),
    [
        ([[1]], [], "1 prompts with"),
        ([], [], "one prompt or more"),
        ([[1], [1]], [[[2]], [[2], [3]]], r"\[1, 2\]"),
        ([[]], [[[2]]], "at least one token"),
        ([[1]], [[[2], []]], "data check"),
    ],
)
def test_refuses_groups_that_are_none(
    prompts: list[list[int]], completions: list[list[list[int]]], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Batch(prompts, completions)


def test_completions_may_be_still_to_come() -> None:
    assert Batch([[1], [2]], [[], []]).k == 0


def test_refuses_images_for_some_prompts() -> None:
    with pytest.raises(ValueError, match="got 1 for 2"):
        Batch([[1], [2]], [[[3]], [[4]]], [{}])
