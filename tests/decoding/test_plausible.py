"""The plausibility constraint and the affine contrast, by hand and at their edges."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding.plausible import contrasted, lifted, plausible

INF = math.inf


def test_keeps_exactly_the_tokens_above_the_share() -> None:
    # Shares of the best token: 1, 0.2, 0.09; a constant on the logits must not matter.
    expert = torch.tensor([1.0, 0.2, 0.09]).log() + 7
    assert plausible(expert, 0.1).tolist() == [True, True, False]
    assert plausible(expert, 0.5).tolist() == [True, False, False]


def test_a_cutoff_of_one_keeps_only_the_best_and_its_ties() -> None:
    assert plausible(torch.tensor([2.0, 2.0, 1.9]), 1.0).tolist() == [True, True, False]


def test_each_row_has_a_maximum_of_its_own() -> None:
    expert = torch.tensor([[0.0, 9.0], [0.0, 1.0]])
    assert plausible(expert, 0.1).tolist() == [[False, True], [True, True]]


def test_a_forbidden_token_is_never_plausible() -> None:
    expert = torch.tensor([[-INF, 0.0], [-INF, -INF]])
    assert plausible(expert, 1e-6).tolist() == [[False, True], [False, False]]
    assert plausible(expert, None).tolist() == [[False, True], [False, False]]


def test_no_cutoff_keeps_all_that_is_allowed() -> None:
    assert plausible(torch.tensor([0.0, -1e4]), None).all()


@pytest.mark.parametrize("cutoff", [0.0, -0.1, 1.5])
def test_refuses_a_cutoff_outside_zero_to_one(cutoff: float) -> None:
    with pytest.raises(ValueError, match="cutoff must lie in"):
        plausible(torch.zeros(3), cutoff)


def test_a_forbidden_contrast_counts_as_the_smallest_finite_one_of_its_row() -> None:
    contrast = torch.tensor([[1.0, -INF, -2.0], [-INF, 5.0, 4.0]])
    assert lifted(contrast).tolist() == [[1.0, -2.0, -2.0], [4.0, 5.0, 4.0]]


def test_a_contrast_that_forbids_everything_says_nothing() -> None:
    expert, contrast = torch.tensor([1.0, 2.0]), torch.full((2,), -INF)
    # (1 + 1) * l - 1 * 0
    assert contrasted(expert, contrast, 1.0).tolist() == [2.0, 4.0]


def test_contrast_by_hand() -> None:
    # 1.5 * [1, 2, 0] - 0.5 * [0, 2, 2]
    scores = contrasted(torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.0, 2.0, 2.0]), 0.5)
    assert scores.tolist() == [1.5, 2.0, -1.0]


def test_a_strength_for_each_row() -> None:
    expert, contrast = (
        torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
        torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
    )
    scores = contrasted(expert, contrast, torch.tensor([[0.0], [2.0]]))
    assert scores.tolist() == [[1.0, 0.0], [3.0, -2.0]]


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.5, 2.0])
def test_infinities_neither_become_nan_nor_a_winner(alpha: float) -> None:
    expert = torch.tensor([-INF, -INF, 0.0, 1.0])
    contrast = torch.tensor([-INF, 3.0, -INF, 1.0])
    scores = contrasted(expert, contrast, alpha)
    assert scores[:2].tolist() == [-INF, -INF]
    assert scores[2:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, dtype=dtype)
    assert contrasted(logits, logits, 0.5).dtype == dtype
    assert lifted(logits).dtype == dtype
