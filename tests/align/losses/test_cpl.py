"""CPL: its reductions to DPO, discounts and rankings by hand, soft labels, cloning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pair_batches import logps, pairs

from contralign.align.batch import Batch
from contralign.align.losses import CPL, DPO
from contralign.align.losses.cpl import cloning

LENGTHS = [(3, 5), (1, 1), (7, 2)]


def ranked(*lengths: int, **columns: Any) -> Batch:
    """One prompt with completions of these lengths, best first."""
    tensors = {name: torch.tensor(values) for name, values in columns.items()}
    return Batch([[1]], [[[3] * length for length in lengths]], columns=tensors)


@pytest.mark.parametrize("kl", [False, True])
@pytest.mark.parametrize("alpha", [0.1, 0.7])
def test_without_discount_and_bias_it_is_dpo(kl: bool, alpha: float) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, metrics = CPL(alpha, kl=kl)(policy, reference, batch)
    expected, told = DPO(alpha)(policy, reference if kl else None, batch)
    assert torch.allclose(loss, expected)
    assert metrics.keys() == told.keys()
    assert all(torch.allclose(metrics[name], told[name]) for name in told)


def test_the_discount_by_hand() -> None:
    # S+ = 0.5 * (-1 - 2 / 2 - 4 / 4) = -1.5, S- = 0.5 * (-2 - 6 / 2) = -2.5
    policy = torch.tensor([[[-1.0, -2.0, -4.0], [-2.0, -6.0, 0.0]]])
    loss, metrics = CPL(0.5, gamma=0.5)(policy, None, pairs([(3, 2)]))
    assert metrics["rewards/chosen"].item() == -1.5
    assert metrics["rewards/rejected"].item() == -2.5
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)))
    # lambda is of the rejected side alone: -1.5 + 0.4 * 2.5 = -0.5
    biased, _ = CPL(0.5, gamma=0.5, lmbda=0.4)(policy, None, pairs([(3, 2)]))
    assert biased.item() == pytest.approx(math.log1p(math.exp(0.5)))


def test_averages_are_of_tokens() -> None:
    policy = logps(LENGTHS, 1)
    _, metrics = CPL(0.3, average=True)(policy, None, pairs(LENGTHS))
    for i, (chosen, _) in enumerate(LENGTHS):
        assert metrics["rewards/chosen"][i].item() == pytest.approx(
            0.3 * policy[i, 0, :chosen].mean().item()
        )


@pytest.mark.parametrize("lmbda", [1.0, 0.5])
def test_soft_labels_weigh_both_orders(lmbda: float) -> None:
    policy, loss = logps([(2, 2)] * 3, 1)[:1].expand(3, -1, -1), CPL(0.7, lmbda=lmbda)
    found, _ = loss(policy, None, pairs([(2, 2)] * 3, label=[1.0, 0.0, 0.3]))
    there, _ = loss(policy[:1], None, pairs([(2, 2)]))
    back, _ = loss(policy[:1].flip(1), None, pairs([(2, 2)]))
    expected = [there, back, 0.3 * there + 0.7 * back]
    assert found.tolist() == pytest.approx([x.item() for x in expected])


def test_a_tie_pulls_both_together() -> None:
    policy = torch.tensor([[[-1.0], [-1.0]], [[-1.0], [-3.0]]], requires_grad=True)
    loss, _ = CPL(1.0)(policy, None, pairs([(1, 1)] * 2, label=[0.5, 0.5]))
    loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad[0].abs().max() == 0
    assert policy.grad[1].flatten().sign().tolist() == [1, -1]


def test_a_sure_label_is_not_nan_at_an_infinite_advantage() -> None:
    policy = torch.tensor([[[-1.0], [-math.inf]]], requires_grad=True)
    loss, _ = CPL()(policy, None, pairs([(1, 1)], label=[1.0]))
    loss.sum().backward()
    assert policy.grad is not None
    assert not loss.isnan().any()
    assert not policy.grad.isnan().any()


def test_a_ranking_by_hand() -> None:
    # S = log 4, log 2, log 1: 4/7 * 2/3
    policy = torch.tensor([4.0, 2.0, 1.0]).log()[None, :, None]
    loss, metrics = CPL(1.0)(policy, None, ranked(1, 1, 1))
    assert loss.item() == pytest.approx(-math.log(4 / 7 * 2 / 3))
    assert metrics["rewards/accuracies"].item() == 1
    assert metrics["rewards/margins"].item() == pytest.approx(math.log(2 * 4 * 2) / 3)
    mixed, told = CPL(1.0)(policy[:, [1, 0, 2]], None, ranked(1, 1, 1))
    assert mixed.item() == pytest.approx(-math.log(2 / 7 * 4 / 5))
    assert told["rewards/accuracies"].item() == pytest.approx(2 / 3)


def test_rankings_are_a_distribution_over_orders() -> None:
    policy = torch.randn(1, 3, 1).double()
    orders = torch.tensor([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    losses = [CPL(1.0)(policy[:, order], None, ranked(1, 1, 1))[0] for order in orders]
    assert sum((-loss).exp().item() for loss in losses) == pytest.approx(1)


def test_cloning_adds_the_chosen_ones_mean_surprise() -> None:
    batch, policy = pairs(LENGTHS), logps(LENGTHS, 1)
    plain, _ = CPL()(policy, None, batch)
    cloned, _ = CPL(bc_coeff=0.5)(policy, None, batch)
    surprise = [-policy[i, 0, :chosen].mean().item() for i, (chosen, _) in enumerate(LENGTHS)]
    assert (cloned - plain).tolist() == pytest.approx([0.5 * x for x in surprise])
    assert cloning(policy, batch).tolist() == pytest.approx(surprise)


@pytest.mark.parametrize(
    ("length", "lmbda", "saturated"), [(100, 0.5, 1.0), (100, 1.0, None), (2, 0.5, 0.0)]
)
def test_says_where_lambda_flattens_the_sigmoid(
    length: int, lmbda: float, saturated: float | None
) -> None:
    batch = pairs([(length, length)])
    policy = torch.full(batch.mask.shape, -3.0)
    loss, metrics = CPL(0.1, lmbda=lmbda)(policy.requires_grad_(), None, batch)
    loss.sum().backward()
    found = metrics.get("rewards/saturated")
    assert (None if found is None else found.item()) == saturated
    if saturated:  # likelihood up, unlikelihood down, whatever the preference
        assert policy.grad is not None
        assert policy.grad[0, :, 0].tolist() == pytest.approx([-0.1, 0.05], rel=1e-3)


def test_kl_says_that_it_needs_a_reference() -> None:
    assert (CPL().needs_reference, CPL(kl=True).needs_reference) == (False, True)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, math.nan, True])
@pytest.mark.parametrize("name", ["gamma", "lmbda"])
def test_refuses_a_share_outside_zero_to_one(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must"):
        CPL(**{name: value})


@pytest.mark.parametrize(
    ("given", "told"),
    [({"alpha": 0.0}, "alpha must be above 0"), ({"bc_coeff": -1.0}, "bc_coeff must be at least")],
)
def test_refuses_other_values(given: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CPL(**given)


@pytest.mark.parametrize(
    ("batch", "loss", "told"),
    [
        (ranked(1), CPL(), "got one of each"),
        (ranked(1, 1, 1), CPL(lmbda=0.5), r"lmbda is of pairs, got 0\.5 with 3"),
        (ranked(1, 1, 1, label=[1.0]), CPL(), "a label is of pairs, got 3"),
        (replace(ranked(1, 1), columns={"margin": torch.ones(1)}), CPL(), "CPL is not defined"),
    ],
)
def test_refuses_what_it_is_not_defined_on(batch: Batch, loss: CPL, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        loss(torch.zeros(batch.mask.shape), None, batch)
