"""The hinge of SLiC-HF and RSO."""

from __future__ import annotations

import pytest
import torch
from pair_batches import logps, pairs

from contralign.align.losses import Hinge

LENGTHS = [(3, 5), (1, 1), (7, 2)]


def test_by_hand() -> None:
    policy = torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]]] * 2)
    reference = torch.tensor([[[-2.0, -3.0], [-3.0, 0.0]]] * 2)
    batch = pairs([(2, 1)] * 2)
    assert Hinge(0.25)(policy, reference, batch)[0].tolist() == [1 - 0.25 * 3] * 2
    assert Hinge(0.5)(policy, reference, batch)[0].tolist() == [0.0] * 2  # 1 - 1.5 < 0


def test_is_one_where_the_policy_is_the_reference() -> None:
    policy = logps(LENGTHS, 1)
    assert Hinge()(policy, policy, pairs(LENGTHS))[0].tolist() == [1.0] * 3


def test_equals_the_equation_row_by_row() -> None:
    policy, reference = logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, _ = Hinge(0.3)(policy, reference, pairs(LENGTHS))
    for i, lengths in enumerate(LENGTHS):
        chosen, rejected = (
            sum(policy[i, side, t].item() - reference[i, side, t].item() for t in range(length))
            for side, length in enumerate(lengths)
        )
        assert loss[i].item() == pytest.approx(max(0.0, 1 - 0.3 * (chosen - rejected)))


def test_a_pair_that_is_apart_enough_has_no_gradient() -> None:
    policy = torch.tensor([[[0.0], [-9.0]], [[0.0], [-11.0]]], requires_grad=True)
    Hinge(0.1)(policy, None, pairs([(1, 1)] * 2))[0].sum().backward()
    assert policy.grad is not None
    assert policy.grad.flatten().tolist() == pytest.approx([-0.1, 0.1, 0.0, 0.0])


def test_without_reference_it_is_slic_times_beta() -> None:
    policy, delta = logps(LENGTHS, 1), 4.0
    chosen, rejected = policy.sum(-1).unbind(-1)
    slic = torch.clamp(delta - chosen + rejected, min=0)
    assert torch.allclose(Hinge(1 / delta)(policy, None, pairs(LENGTHS))[0], slic / delta)


def test_refuses_margins() -> None:
    with pytest.raises(ValueError, match="the hinge loss is not defined with a margin"):
        Hinge()(torch.zeros(1, 2, 1), None, pairs([(1, 1)], margin=[1.0]))
