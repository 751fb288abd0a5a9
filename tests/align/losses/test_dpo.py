"""DPO, Eq. 7 of the paper; conservative DPO; ODPO."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pair_batches import logps, pairs

from contralign.align.losses import DPO

LENGTHS = [(3, 5), (1, 1), (7, 2)]


def test_by_hand() -> None:
    # h chosen = (-1 - 2) - (-2 - 3) = 2, h rejected = -4 - (-3) = -1, so d = 3 and x = 0.5 * 3.
    policy = torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]]])
    reference = torch.tensor([[[-2.0, -3.0], [-3.0, 0.0]]])
    loss, metrics = DPO(beta=0.5)(policy, reference, pairs([(2, 1)]))
    assert loss.item() == pytest.approx(0.2014132779827524)  # log(1 + exp(-1.5))
    assert {key: value.item() for key, value in metrics.items()} == {
        "rewards/chosen": 1.0,
        "rewards/rejected": -0.5,
        "rewards/margins": 1.5,
        "rewards/accuracies": 1.0,
    }


def test_conservative_by_hand() -> None:
    policy = torch.tensor([[[-1.0], [-4.0]]])
    loss, _ = DPO(beta=0.5, label_smoothing=0.1)(policy, None, pairs([(1, 1)]))
    # 0.9 * log(1 + exp(-1.5)) + 0.1 * log(1 + exp(1.5))
    assert loss.item() == pytest.approx(0.9 * 0.2014132779827524 + 0.1 * 1.7014132779827524)


def test_margin_by_hand() -> None:
    policy = torch.tensor([[[-1.0], [-4.0]], [[-1.0], [-4.0]]])
    loss, metrics = DPO(beta=0.5)(policy, None, pairs([(1, 1)] * 2, margin=[1.5, -0.5]))
    # x = 1.5 - 1.5 = 0, and x = 1.5 + 0.5 = 2
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))])
    assert metrics["rewards/margins"].tolist() == [
        1.5,
        1.5,
    ]  # what the policy has, not what it owes


def test_is_log_two_where_the_policy_is_the_reference() -> None:
    policy = logps(LENGTHS, 1)
    loss, _ = DPO()(policy, policy, pairs(LENGTHS))
    assert loss.tolist() == [math.log(2)] * 3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("with_margin", [False, True])
def test_equals_the_equation_row_by_row(smoothing: float, with_margin: bool) -> None:
    margins = {"margin": [0.5, -1.0, 2.0]} if with_margin else {}
    batch, policy, reference = pairs(LENGTHS, **margins), logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, _ = DPO(0.3, smoothing)(policy, reference, batch)
    for i, (chosen, rejected) in enumerate(LENGTHS):
        x = -margins["margin"][i] if with_margin else 0.0
        for t in range(chosen):
            x += 0.3 * (policy[i, 0, t].item() - reference[i, 0, t].item())
        for t in range(rejected):
            x -= 0.3 * (policy[i, 1, t].item() - reference[i, 1, t].item())
        sigmoid = 1 / (1 + math.exp(-x))
        expected = -(1 - smoothing) * math.log(sigmoid) - smoothing * math.log(1 - sigmoid)
        assert loss[i].item() == pytest.approx(expected)


def test_the_more_labels_are_wrong_the_more_alike_are_both_orders() -> None:
    # At a half the loss would be symmetric: smoothing e and 1 - e swap chosen and rejected.
    batch, policy = pairs([(2, 2)]), logps([(2, 2)], 1)
    loss, _ = DPO(1.0, 0.49999)(policy, None, batch)
    swapped, _ = DPO(1.0, 0.49999)(policy.flip(1), None, batch)
    assert loss.item() == pytest.approx(swapped.item(), rel=1e-4)
    sure, _ = DPO(1.0)(policy, None, batch)
    other, _ = DPO(1.0)(policy.flip(1), None, batch)
    mixed, _ = DPO(1.0, 0.3)(policy, None, batch)
    assert mixed.item() == pytest.approx((0.7 * sure + 0.3 * other).item())


def test_smoothing_stops_at_the_odds_of_the_labels() -> None:
    # The optimum of cDPO: sigmoid(x) = 1 - e.
    x = torch.tensor(math.log(0.9 / 0.1), dtype=torch.float64)
    policy = torch.stack([x, torch.zeros_like(x)])[None, :, None].requires_grad_()
    DPO(1.0, 0.1)(policy, None, pairs([(1, 1)]))[0].sum().backward()
    assert policy.grad is not None
    assert policy.grad.abs().max() < 1e-12


def test_a_wrong_label_has_the_opposite_margin() -> None:
    policy = logps([(2, 2)], 1)
    right, _ = DPO(1.0, 0.3)(policy, None, pairs([(2, 2)], margin=[0.7]))
    sure, _ = DPO(1.0)(policy, None, pairs([(2, 2)], margin=[0.7]))
    flipped, _ = DPO(1.0)(policy.flip(1), None, pairs([(2, 2)], margin=[-0.7]))
    assert right.item() == pytest.approx((0.7 * sure + 0.3 * flipped).item())


@pytest.mark.parametrize("smoothing", [-0.1, 0.5, 1.0, math.nan, True])
def test_refuses_a_smoothing_outside_zero_to_a_half(smoothing: Any) -> None:
    with pytest.raises(ValueError, match="label_smoothing must"):
        DPO(label_smoothing=smoothing)
