"""Laws that every loss of the table obeys, on random log-probs and at the extremes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pair_batches import logps, pairs
from torch import Tensor

from contralign.align.batch import Batch
from contralign.align.losses import CPL, LOSSES, CoPG

# CPL's alpha is beta; CoPG regresses on scores.
PAPERS: dict[str, Any] = {
    "cpl": lambda beta: CPL(beta, kl=True),
    "cpl-discounted": lambda beta: CPL(beta, gamma=0.9, lmbda=0.7, kl=True, average=True),
    "copg": lambda beta: _scored(CoPG(beta)),
}
EVERY = pytest.mark.parametrize("name", [*LOSSES, *PAPERS])
SUMMED = pytest.mark.parametrize("name", [*LOSSES, "cpl", "copg"])
NAMED = pytest.mark.parametrize("name", LOSSES)
# On a hinge's flat side there is no gradient: this beta keeps every random pair on the slope.
BETA = 0.01
LENGTHS = [(3, 5), (1, 1), (7, 2)]


def _loss(name: str) -> Any:
    return {**LOSSES, **PAPERS}[name](beta=BETA)


def _scored(loss: Any) -> Any:
    """Give every pair scores, the chosen one's higher."""

    def called(policy: Tensor, reference: Tensor | None, batch: Batch) -> Any:
        scores = torch.tensor([[1.0, -1.0]]).double().expand(len(batch), -1)
        return loss(policy, reference, replace(batch, columns={"scores": scores}))

    return called


def _swapped(x: Tensor) -> Tensor:
    return x.flip(1)


@EVERY
def test_swapping_chosen_and_rejected_flips_the_margin(name: str) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    swapped = pairs([(rejected, chosen) for chosen, rejected in LENGTHS])
    _, there = _loss(name)(policy, reference, batch)
    _, back = _loss(name)(_swapped(policy), _swapped(reference), swapped)
    assert torch.equal(there["rewards/margins"], -back["rewards/margins"])
    assert torch.equal(there["rewards/chosen"], back["rewards/rejected"])
    assert torch.equal(there["rewards/accuracies"], 1 - back["rewards/accuracies"])


@EVERY
def test_what_moves_policy_and_reference_alike_cancels(name: str) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    shift = torch.randn(3, 2, 1).double()
    loss, metrics = _loss(name)(policy, reference, batch)
    shifted, same = _loss(name)(policy + shift, reference + shift, batch)
    assert torch.allclose(loss, shifted)
    assert all(torch.allclose(metrics[key], same[key]) for key in metrics)


@EVERY
def test_padding_is_not_read(name: str) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, _ = _loss(name)(policy, reference, batch)
    policy[~batch.mask], reference[~batch.mask] = math.nan, -math.inf
    policy.requires_grad_()
    again, _ = _loss(name)(policy, reference, batch)
    assert torch.equal(loss, again)
    again.sum().backward()
    assert policy.grad is not None
    assert not policy.grad[~batch.mask].any()
    assert policy.grad[batch.mask].all()


@EVERY
def test_rows_are_independent(name: str) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, metrics = _loss(name)(policy, reference, batch)
    for i, lengths in enumerate(LENGTHS):
        width = max(lengths)
        part, said = _loss(name)(
            policy[i : i + 1, :, :width], reference[i : i + 1, :, :width], pairs([lengths])
        )
        assert torch.allclose(part, loss[i])
        assert all(torch.allclose(said[key], metrics[key][i]) for key in metrics)


@EVERY
def test_without_reference_it_compares_with_zero(name: str) -> None:
    batch, policy = pairs(LENGTHS), logps(LENGTHS, 1)
    free, metrics = _loss(name)(policy, None, batch)
    zero, same = _loss(name)(policy, torch.zeros_like(policy), batch)
    assert torch.equal(free, zero)
    assert torch.equal(metrics["rewards/chosen"], same["rewards/chosen"])


@EVERY
def test_gradcheck(name: str) -> None:
    batch, reference = pairs(LENGTHS), logps(LENGTHS, 2)
    policy = logps(LENGTHS, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _loss(name)(x, reference, batch)[0], policy)


@EVERY
def test_descent_raises_chosen_and_lowers_rejected(name: str) -> None:
    batch = pairs(LENGTHS)
    policy = logps(LENGTHS, 1).requires_grad_()
    loss, _ = _loss(name)(policy, policy.detach(), batch)
    loss.sum().backward()
    assert policy.grad is not None
    chosen, rejected = policy.grad.unbind(1)
    assert (chosen[batch.mask[:, 0]] < 0).all()
    assert (rejected[batch.mask[:, 1]] > 0).all()


@SUMMED
def test_metrics_are_rewards_without_gradient(name: str) -> None:
    batch, policy, reference = pairs(LENGTHS), logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, metrics = _loss(name)(policy.requires_grad_(), reference, batch)
    assert loss.requires_grad
    assert not any(value.requires_grad for value in metrics.values())
    assert {value.shape for value in metrics.values()} == {loss.shape}
    for i, (chosen, rejected) in enumerate(LENGTHS):
        ratios = (policy - reference).detach()[i]
        rewards = BETA * ratios[0, :chosen].sum(), BETA * ratios[1, :rejected].sum()
        assert metrics["rewards/chosen"][i].item() == pytest.approx(rewards[0].item())
        assert metrics["rewards/rejected"][i].item() == pytest.approx(rewards[1].item())
        assert metrics["rewards/margins"][i].item() == pytest.approx(
            (rewards[0] - rewards[1]).item()
        )
        assert metrics["rewards/accuracies"][i].item() == float(rewards[0] > rewards[1])


@EVERY
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [(-1e30, 0.0), (0.0, -1e30), (-1e30, -2e30), (-math.inf, -1.0), (-1.0, -math.inf)],
)
def test_extremes_are_never_nan(name: str, chosen: float, rejected: float) -> None:
    policy = torch.tensor([[[chosen], [rejected]]], requires_grad=True)
    loss, metrics = _loss(name)(policy, torch.full((1, 2, 1), -3.0), pairs([(1, 1)]))
    loss.sum().backward()
    assert policy.grad is not None
    for value in (loss, policy.grad, *metrics.values()):
        assert not value.isnan().any()


@EVERY
def test_half_precision_is_computed_in_float32(name: str) -> None:
    batch = pairs(LENGTHS)
    policy, reference = logps(LENGTHS, 1).bfloat16(), logps(LENGTHS, 2).bfloat16()
    loss, metrics = _loss(name)(policy, reference, batch)
    exact, _ = _loss(name)(policy.float(), reference.float(), batch)
    assert loss.dtype == metrics["rewards/chosen"].dtype == torch.float32
    assert torch.equal(loss, exact)


@NAMED
def test_refuses_what_is_no_pair(name: str) -> None:
    batch = replace(pairs([(2, 2)]), completions=[[[1, 1], [1, 1], [1, 1]]])
    with pytest.raises(ValueError, match=r"compares pairs.*got 3 completions"):
        _loss(name)(torch.zeros(1, 3, 2), None, batch)


@NAMED
@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf, True])
def test_refuses_a_beta_that_is_no_positive_number(name: str, beta: Any) -> None:
    with pytest.raises(ValueError, match="beta must be"):
        LOSSES[name](beta=beta)


@NAMED
def test_says_that_it_has_a_reference_and_all_its_parameters(name: str) -> None:
    assert LOSSES[name]().needs_reference is True
    assert "beta=0.1" in repr(LOSSES[name]())
