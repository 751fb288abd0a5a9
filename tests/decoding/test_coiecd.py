"""COIECD against the formula with the entropy term that ours leaves out."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding import COIECD

INF = math.inf


def naive(expert: list[float], contrast: list[float], alpha: float) -> list[float]:
    """One row, with the entropy, both bounds on the shifted surprisal, and plain floats."""

    def normalised(row: list[float]) -> list[float]:
        total = math.log(sum(map(math.exp, row)))
        return [x - total for x in row]

    context, memory = normalised(expert), normalised(contrast)
    entropy = -sum(math.exp(x) * x for x in memory)
    shifted = normalised([-x - entropy for x in context])
    low, high = min(shifted) + math.log(4), max(shifted) - math.log(4)
    return [
        (c if s < low or s > high else m) + alpha * (c - m)
        for c, m, s in zip(context, memory, shifted, strict=True)
    ]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_equals_the_formula_with_its_entropy(alpha: float) -> None:
    expert, contrast = 2 * torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(3)).double()
    expected = [naive(a, b, alpha) for a, b in zip(expert.tolist(), contrast.tolist(), strict=True)]
    assert torch.allclose(
        COIECD(alpha=alpha).rule(expert, contrast), torch.tensor(expected).double()
    )


def test_by_hand() -> None:
    # p = (0.80, 0.15, 0.05), q = (0.2, 0.3, 0.5). In conflict: above 0.8 / 4 = 0.2 or below
    # 4 * 0.05 = 0.2, so all three; alpha 1 gives p * p / q = (3.2, 0.075, 0.005).
    p, q = torch.tensor([0.80, 0.15, 0.05]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    assert COIECD().rule(p.log(), q.log()).exp().tolist() == pytest.approx([3.2, 0.075, 0.005])


def test_a_token_in_the_middle_starts_from_memory() -> None:
    # p = (0.81, 0.18, 0.01): 0.18 is below 0.81 / 4 and above 4 * 0.01, so q * (p / q) = p there.
    p, q = torch.tensor([0.81, 0.18, 0.01]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    scores = COIECD().rule(p.log(), q.log()).exp().tolist()
    assert scores == pytest.approx([0.81**2 / 0.2, 0.18, 0.01**2 / 0.5])


def test_a_forbidden_token_does_not_set_the_lower_bound() -> None:
    p, q = torch.tensor([0.81, 0.18, 0.01]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    p_wider, q_wider = (torch.cat([row, torch.zeros(1)]) for row in (p, q))
    wider = COIECD().rule(p_wider.log(), q_wider.log())
    assert wider.tolist() == [*COIECD().rule(p.log(), q.log()).tolist(), -INF]


def test_refuses_a_negative_strength() -> None:
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        COIECD(alpha=-1.0)
