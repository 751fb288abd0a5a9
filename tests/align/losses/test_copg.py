"""CoPG: its gradient is RLOO's, its fixed point the optimum, both held against every sequence."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from enumerable import Enumerable, gradient
from pair_batches import logps, pairs
from torch import Tensor

from contralign.align.losses import IPO, CoPG

LENGTHS = [(3, 5), (1, 1), (7, 2)]
WORLD = Enumerable()
COUNT = len(WORLD.sequences)
BETA = 0.3


def rewards(seed: int = 5) -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(seed)).double()


def loss_on(theta: Tensor, reference: Tensor, groups: list[tuple[int, ...]], **columns: Any) -> Any:
    """The losses of groups of sequences; columns from the batch's default scores."""
    scores = rewards()[torch.tensor(groups)]
    batch = WORLD.batch(groups, **{"scores": scores, **columns})
    policy, other = (WORLD.of(WORLD.logps(x), groups) for x in (theta, reference))
    return CoPG(BETA)(policy, other, batch)[0]


def objective(theta: Tensor, reference: Tensor) -> Tensor:
    """`E_pi[R] - beta * KL(pi || ref)`, over every sequence."""
    logps, other = (WORLD.logps(x).sum(-1) for x in (theta, reference))
    return (logps.exp() * (rewards() - BETA * (logps - other))).sum()


def test_by_hand() -> None:
    # h = 2 and -1, R = 1 and -1: (0.5 * 3 - 2) ** 2 / (2 * 0.5)
    policy = torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]]])
    reference = torch.tensor([[[-2.0, -3.0], [-3.0, 0.0]]])
    batch = pairs([(2, 1)], scores=[[1.0, -1.0]])
    loss, metrics = CoPG(0.5)(policy, reference, batch)
    assert loss.item() == 0.25
    assert {name: metrics[name].item() for name in ("rewards/chosen", "rewards/margins")} == {
        "rewards/chosen": 1.0,
        "rewards/margins": 1.5,
    }
    assert (metrics["scores/mean"].item(), metrics["rewards/covariance"].item()) == (0.0, 3.0)


def test_with_a_quarter_it_is_half_beta_times_ipo() -> None:
    policy, reference = logps(LENGTHS, 1), logps(LENGTHS, 2)
    batch = pairs(LENGTHS, scores=[[0.25, -0.25]] * 3)
    loss, metrics = CoPG(BETA)(policy, reference, batch)
    ipo, told = IPO(BETA, average=False)(policy, reference, pairs(LENGTHS))
    assert torch.allclose(loss, BETA / 2 * ipo)
    assert all(torch.equal(metrics[name], told[name]) for name in told)


def test_a_pairs_gradient_is_the_papers() -> None:
    # Eq. 7-9: R with beta / 2, and the gradient goes through it.
    theta, reference = WORLD.logits(1).requires_grad_(), WORLD.logits(2)
    h = (WORLD.logps(theta) - WORLD.logps(reference)).sum(-1)
    i, j = 2, 9
    scores = rewards() - BETA / 2 * h
    paper = (scores[i] - scores[j]) * h[i] + (scores[j] - scores[i]) * h[j]
    found = gradient(loss_on(theta, reference, [(i, j)]).sum(), theta)
    assert torch.allclose(found, -gradient(paper, theta), atol=1e-14)
    wrong = rewards() - BETA * h  # what people write: all of beta, and through it
    naive = (wrong[i] - wrong[j]) * (h[i] - h[j])
    assert not torch.allclose(found, -gradient(naive, theta), atol=1e-2)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_groups_gradient_is_rloos(k: int) -> None:
    theta, reference = WORLD.logits(1).requires_grad_(), WORLD.logits(2)
    group = tuple(range(1, 1 + 2 * k, 2))
    logps = WORLD.logps(theta).sum(-1)
    regularised = (rewards() - BETA * (logps - WORLD.logps(reference).sum(-1))).detach()
    rloo = torch.zeros(())
    for j in group:  # Eq. 65
        others = [regularised[i] for i in group if i != j]
        rloo = rloo - (regularised[j] - sum(others) / (k - 1)) * logps[j]
    found = gradient(loss_on(theta, reference, [group]).sum(), theta)
    assert torch.allclose(found, gradient(rloo, theta), atol=1e-13)


@pytest.mark.parametrize("k", [2, 4])
def test_a_group_is_its_errors_variance_and_a_pair_is_a_group(k: int) -> None:
    theta, reference, group = WORLD.logits(1), WORLD.logits(2), tuple(range(k))
    h = (WORLD.logps(theta) - WORLD.logps(reference)).sum(-1)[:k]
    errors = rewards()[:k] - BETA * h
    found = loss_on(theta, reference, [group]).item()
    assert found == pytest.approx(k / (2 * BETA) * errors.var(unbiased=True).item())
    if k == 2:
        by_hand = (BETA * (h[0] - h[1]) - (rewards()[0] - rewards()[1])) ** 2 / (2 * BETA)
        assert found == pytest.approx(by_hand.item())


def test_on_the_policys_own_samples_it_ascends_the_objective() -> None:
    theta, reference = WORLD.logits(1).requires_grad_(), WORLD.logits(2)
    groups = list(product(range(COUNT), repeat=2))
    odds = WORLD.logps(theta).sum(-1).exp().detach()
    odds = torch.stack([odds[i] * odds[j] for i, j in groups])
    expected = gradient((odds * loss_on(theta, reference, groups)).sum(), theta)
    assert torch.allclose(expected, -2 * gradient(objective(theta, reference), theta), atol=1e-12)


def test_whoever_sampled_the_optimum_is_the_fixed_point() -> None:
    reference = WORLD.logits(2)
    theta = WORLD.logits(1).requires_grad_()
    groups = [(i, (i + step) % COUNT) for i in range(COUNT) for step in (1, 4)]
    optimizer = torch.optim.LBFGS(
        [theta], max_iter=1000, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_on(theta, reference, groups).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    other = WORLD.logps(reference).sum(-1)
    best = torch.log_softmax(other + rewards() / BETA, 0)
    assert torch.allclose(WORLD.logps(theta).sum(-1), best, atol=1e-4)
    assert gradient(objective(theta, reference), theta).abs().max() < 1e-4


def test_what_all_scores_of_a_prompt_share_changes_nothing() -> None:
    theta, reference = WORLD.logits(1), WORLD.logits(2)
    groups = [(0, 3, 7), (1, 2, 9)]
    shifted = rewards()[torch.tensor(groups)] + torch.tensor([[40.0], [-3.0]])
    moved = loss_on(theta, reference, groups, scores=shifted)
    assert torch.allclose(moved, loss_on(theta, reference, groups))


def test_one_completion_is_held_against_its_baseline() -> None:
    theta, reference = WORLD.logits(1).requires_grad_(), WORLD.logits(2)
    baseline = torch.tensor([0.7], dtype=torch.float64)
    loss = loss_on(theta, reference, [(4,)], baseline=baseline)
    logp = WORLD.logps(theta).sum(-1)[4]
    h = logp - WORLD.logps(reference).sum(-1)[4]
    error = rewards()[4] - BETA * h - baseline[0]
    assert loss.item() == pytest.approx((error**2 / (2 * BETA)).item())
    assert torch.allclose(gradient(loss.sum(), theta), -gradient(error.detach() * logp, theta))


def test_equal_scores_have_no_order() -> None:
    policy = torch.tensor([[[-1.0], [-2.0], [-3.0]]])
    batch = replace(pairs([(1, 1)]), completions=[[[3], [3], [3]]])
    tied = replace(batch, columns={"scores": torch.ones(1, 3)})
    _, metrics = CoPG()(policy, None, tied)
    assert (metrics["rewards/accuracies"].item(), metrics["rewards/margins"].item()) == (0.5, 0)
    part = replace(batch, columns={"scores": torch.tensor([[2.0, 1.0, 1.0]])})
    _, metrics = CoPG(0.5)(policy, None, part)
    assert metrics["rewards/accuracies"].item() == 1
    assert metrics["rewards/margins"].item() == pytest.approx(0.5 * (1 + 2) / 3)


@pytest.mark.parametrize(
    ("k", "columns", "told"),
    [
        (2, {}, "got a batch without the column scores"),
        (1, {"scores": [[1.0]]}, "one completion of a prompt .* got no column baseline"),
        (2, {"scores": [[1.0, 0.0]], "baseline": [0.5]}, "a baseline is of one completion .* 2"),
        (2, {"scores": [[1.0, 0.0]], "margin": [0.5]}, "CoPG is not defined with a margin"),
    ],
)
def test_refuses_what_it_is_not_defined_on(k: int, columns: dict[str, Any], told: str) -> None:
    batch = replace(pairs([(1, 1)], **columns), completions=[[[3]] * k])
    with pytest.raises(ValueError, match=told):
        CoPG()(torch.zeros(1, k, 1), None, batch)


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf, True])
def test_refuses_a_beta_that_is_no_positive_number(beta: Any) -> None:
    with pytest.raises(ValueError, match="beta must be"):
        CoPG(beta)
