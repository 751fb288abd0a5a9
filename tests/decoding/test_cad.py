"""CAD, Eq. 3 of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding import CAD


def test_by_hand() -> None:
    # alpha 0.5: 1.5 * [2, 1] - 0.5 * [4, 0] = [1, 1.5]: the context's token overtakes memory's.
    assert CAD(alpha=0.5).rule(torch.tensor([2.0, 1.0]), torch.tensor([4.0, 0.0])).tolist() == [
        1,
        1.5,
    ]


def test_without_strength_it_is_plain_decoding() -> None:
    expert = torch.tensor([2.0, -math.inf, 1.0])
    assert torch.equal(CAD(alpha=0.0).rule(expert, torch.randn(3)), expert)


def test_equals_the_product_of_experts_of_the_paper() -> None:
    # p(y | c, x) * (p(y | c, x) / p(y | x)) ^ alpha, normalised.
    expert, contrast = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1)).double()
    p, q = expert.softmax(-1), contrast.softmax(-1)
    weights = p * (p / q) ** 0.7
    expected = weights / weights.sum(-1, keepdim=True)
    assert torch.allclose(CAD(alpha=0.7).rule(expert, contrast).softmax(-1), expected)


def test_no_token_is_cut_off() -> None:
    assert CAD(alpha=1.0).rule(torch.tensor([0.0, -90.0]), torch.zeros(2)).isfinite().all()


@pytest.mark.parametrize("alpha", [-0.5, math.nan, math.inf])
def test_refuses_a_strength_below_zero_or_without_end(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be"):
        CAD(alpha=alpha)


def test_needs_one_contrast_prompt_for_each_prompt() -> None:
    with pytest.raises(ValueError, match="got contrast=None"):
        CAD().branches(None, ["a"])
    with pytest.raises(ValueError, match="got 2 for 1"):
        CAD().branches(None, ["a"], contrast=["b", "c"])
    with pytest.raises(ValueError, match="reads 1 contrast branch"):
        CAD().sources(None, {}, [])
