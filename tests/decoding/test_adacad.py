"""AdaCAD: CAD whose strength is the divergence of each row."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding import CAD, AdaCAD

INF = math.inf


def naive(expert: list[float], contrast: list[float]) -> tuple[float, list[float]]:
    """The divergence and the scores of one row, in probabilities, token by token."""
    p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (expert, contrast))
    alpha = 0.0
    for a, b in zip(p, q, strict=True):
        mean = (a + b) / 2
        alpha += (a * math.log(a / mean) if a else 0) / 2 + (b * math.log(b / mean) if b else 0) / 2
    return alpha, [(1 + alpha) * x - alpha * y for x, y in zip(expert, contrast, strict=True)]


def test_by_hand() -> None:
    # p = (1, 0) and q = (1/2, 1/2) diverge by 0.21576 (worked in test_divergence.py):
    # (1 + 0.21576) * 0 - 0.21576 * log(1/2) = 0.14955
    scores = AdaCAD().rule(torch.tensor([0.0, -INF]), torch.tensor([0.5, 0.5]).log())
    assert scores.tolist() == pytest.approx([0.149554, -INF], abs=1e-5)


def test_each_row_has_a_strength_of_its_own() -> None:
    expert, contrast = 2 * torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(2)).double()
    contrast[1] = expert[1]
    expected = [naive(a, b)[1] for a, b in zip(expert.tolist(), contrast.tolist(), strict=True)]
    assert torch.allclose(AdaCAD().rule(expert, contrast), torch.tensor(expected).double())


def test_base_two_divides_by_log_two() -> None:
    # No token in common: the divergence is log 2 = 0.693 nats, one bit.
    expert, contrast = torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 60.0]])
    assert torch.allclose(
        AdaCAD(base="2").rule(expert, contrast), CAD(alpha=1.0).rule(expert, contrast)
    )
    assert torch.allclose(
        AdaCAD().rule(expert, contrast), CAD(alpha=math.log(2)).rule(expert, contrast)
    )


def test_the_floor_lifts_only_the_rows_below_it() -> None:
    expert = torch.tensor([[60.0, 0.0], [1.0, 0.0]])
    contrast = torch.tensor([[0.0, 60.0], [0.9, 0.0]])
    scores = AdaCAD(floor=0.3).rule(expert, contrast)
    assert torch.allclose(scores[0], CAD(alpha=math.log(2)).rule(expert, contrast)[0])
    assert torch.allclose(scores[1], CAD(alpha=0.3).rule(expert, contrast)[1])


@pytest.mark.parametrize("floor", [-0.1, math.nan])
def test_refuses_a_negative_floor(floor: float) -> None:
    with pytest.raises(ValueError, match="floor must be"):
        AdaCAD(floor=floor)


def test_refuses_another_base() -> None:
    with pytest.raises((ValueError, TypeError), match="base"):  # TypeError where types are executed
        AdaCAD(base="10")  # type: ignore[arg-type]
