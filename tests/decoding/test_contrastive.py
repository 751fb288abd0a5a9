"""Contrastive decoding, both papers, against loops in plain floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from contralign.decoding import CD, Branch, ImprovedCD, contrastive

INF = math.inf


def log_softmax(row: list[float]) -> list[float]:
    total = math.log(sum(map(math.exp, row)))
    return [x - total for x in row]


def naive_cd(expert: list[float], amateur: list[float], coef: float, heat: float) -> list[float]:
    """Li et al.: normalised after the temperature, -inf below a tenth of the best probability."""
    strong, weak = log_softmax(expert), log_softmax([x / heat for x in amateur])
    floor = 0.1 * max(map(math.exp, strong))
    return [
        s - coef * w if math.exp(s) >= floor else -INF for s, w in zip(strong, weak, strict=True)
    ]


@pytest.mark.parametrize(("coef", "heat"), [(1.0, 1.0), (1.0, 0.5), (0.3, 2.0)])
def test_cd_equals_the_formula(coef: float, heat: float) -> None:
    expert, amateur = 2 * torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(6)).double()
    expected = [
        naive_cd(a, b, coef, heat) for a, b in zip(expert.tolist(), amateur.tolist(), strict=True)
    ]
    scores = CD(coef=coef, amateur_temperature=heat).rule(expert, amateur)
    assert torch.allclose(scores, torch.tensor(expected).double())


def test_cd_by_hand() -> None:
    # Expert (0.50, 0.48, 0.02): the last is below 0.05. Amateur (0.8, 0.1, 0.1).
    # log(0.50 / 0.8) = -0.470, log(0.48 / 0.1) = 1.569: the second overtakes.
    scores = CD().rule(torch.tensor([0.50, 0.48, 0.02]).log(), torch.tensor([0.8, 0.1, 0.1]).log())
    assert scores.tolist() == pytest.approx([-0.4700, 1.5686, -INF], abs=1e-4)


def test_cd_normalises_after_the_temperature() -> None:
    # Amateur (0.8, 0.2) at T = 1/2: 0.64 : 0.04, that is (16/17, 1/17), a distribution again.
    expert, amateur = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log()
    scores = CD(amateur_temperature=0.5).rule(expert, amateur)
    assert (expert - scores).exp().tolist() == pytest.approx([16 / 17, 1 / 17])


def test_top_k_keeps_the_experts_best_and_their_ties() -> None:
    expert = torch.tensor([[3.0, 2.9, 2.8, 2.7], [3.0, 2.9, 2.9, 2.7]])
    kept = CD(top_k=2).rule(expert, torch.zeros(2, 4)).isfinite()
    assert kept.tolist() == [[True, True, False, False], [True, True, True, False]]


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    assert CD(top_k=99).rule(torch.zeros(3), torch.zeros(3)).isfinite().all()


def test_top_k_does_not_bring_back_the_implausible() -> None:
    assert CD(top_k=2).rule(torch.tensor([9.0, 0.0, 0.0]), torch.zeros(3)).isfinite().tolist() == [
        True,
        False,
        False,
    ]


def test_improved_cd_by_hand() -> None:
    # Raw logits, 1.5 * l - 0.5 * l'; the third is below log(0.1) + 2 = -0.303.
    scores = ImprovedCD().rule(torch.tensor([2.0, 1.0, -0.4]), torch.tensor([4.0, -2.0, 0.0]))
    assert scores.tolist() == pytest.approx([1.0, 2.5, -INF])


def test_improved_cd_equals_the_formula() -> None:
    expert, amateur = 2 * torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(7)).double()
    expected = [
        [
            1.7 * x - 0.7 * y if x >= math.log(0.2) + max(strong) else -INF
            for x, y in zip(strong, weak, strict=True)
        ]
        for strong, weak in zip(expert.tolist(), amateur.tolist(), strict=True)
    ]
    scores = ImprovedCD(alpha=0.2, beta=0.7).rule(expert, amateur)
    assert torch.allclose(scores, torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("method", "context"),
    [
        (CD(amateur="base"), "last_token"),
        (CD(amateur="base", amateur_context="full"), "full"),
        (ImprovedCD(amateur="base"), "full"),
    ],
)
def test_the_amateur_reads_what_the_method_says(
    method: CD | ImprovedCD, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    branch = Branch({})
    monkeypatch.setattr(contrastive, "amateur_branch", lambda *args: calls.append(args) or branch)
    inputs = {"input_ids": torch.ones(1, 2)}
    assert method.sources("model", inputs, []) == [branch]  # type: ignore[arg-type]
    assert calls == [("model", inputs, "base", context)]


@pytest.mark.parametrize("method", [CD(), ImprovedCD()])
def test_an_amateur_must_be_named(method: CD | ImprovedCD) -> None:
    assert method.branches(None, ["a"]) == []
    with pytest.raises(ValueError, match="amateur"):
        method.sources(None, {}, [])


@pytest.mark.parametrize("method", [CD(amateur="base"), ImprovedCD(amateur="base")])
def test_a_branch_beside_the_amateur_is_refused(method: CD | ImprovedCD) -> None:
    with pytest.raises(ValueError, match="Leave branch= out"):
        method.sources(None, {}, [{}])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"coef": -1.0}, "coef must be at least 0"),
        ({"amateur_temperature": 0.0}, "amateur_temperature must be above 0"),
        ({"cutoff": 0.0}, "cutoff must lie in"),
        ({"top_k": 0}, "top_k must be at least 1"),
    ],
)
def test_cd_refuses_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CD(**values)


def test_cd_refuses_another_context() -> None:
    with pytest.raises((ValueError, TypeError), match="amateur_context"):
        CD(amateur_context="half")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"alpha": 1.5}, "alpha must lie in"), ({"beta": -0.5}, "beta must be at least 0")],
)
def test_improved_cd_refuses_bad_values(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImprovedCD(**values)
