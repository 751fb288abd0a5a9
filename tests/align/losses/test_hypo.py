"""HyPO: its KL term is exact in expectation on every sequence of a tiny vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from enumerable import Enumerable, gradient
from torch import Tensor

from contralign.align import DPO, Batch, HyPO

SPACE = Enumerable()
COUNT = len(SPACE.sequences)
PAIR = (4, 9)
TEMPERATURES = (1.0, 0.6)


def expected(loss: HyPO, logits: Tensor, other: Tensor, temperature: float, k: int) -> Tensor:
    """The loss's mean over all ways to draw k samples; its gradient doesn't see the weights."""
    draws = list(product(range(COUNT), repeat=k))
    groups = [(*PAIR, *drawn) for drawn in draws]
    policy, reference = (
        torch.cat(
            [
                SPACE.of(SPACE.logps(of), groups)[:, :2],
                SPACE.of(SPACE.logps(of, temperature), groups)[:, 2:],
            ],
            dim=1,
        )
        for of in (logits, other)
    )
    shares = SPACE.logps(logits, temperature).sum(-1).exp().detach()
    weights = torch.stack([shares[list(drawn)].prod() for drawn in draws])
    losses, _ = loss(policy, reference.detach(), replace(SPACE.batch(groups), sampled=k))
    return (weights * losses).sum()


def divergence(logits: Tensor, other: Tensor, temperature: float) -> Tensor:
    """KL of policy to reference in nats, both at a temperature."""
    policy, reference = (SPACE.logps(x, temperature).sum(-1) for x in (logits, other))
    return (policy.exp() * (policy - reference)).sum()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("baseline", "k"), [("none", 1), ("none", 2), ("leave_one_out", 2)])
def test_the_expected_gradient_is_dpos_and_the_exact_kls(
    baseline: str, k: int, temperature: float
) -> None:
    logits, other = SPACE.logits(0).requires_grad_(), SPACE.logits(1)
    loss = HyPO(beta=0.3, lmbda=0.7, baseline=baseline)
    found = gradient(expected(loss, logits, other, temperature, k), logits)
    policy, reference = (SPACE.of(SPACE.logps(x), [PAIR]) for x in (logits, other))
    offline, _ = DPO(0.3)(policy, reference, SPACE.batch([PAIR]))
    exact = offline.sum() + 0.7 * divergence(logits, other, temperature)
    assert torch.allclose(found, gradient(exact, logits), atol=1e-10)


def test_what_is_often_taken_in_its_place_has_another_gradient() -> None:
    logits, other = SPACE.logits(0).requires_grad_(), SPACE.logits(1)
    policy, reference = (SPACE.logps(x).sum(-1) for x in (logits, other))
    shares, ratios = policy.exp().detach(), policy - reference
    forwards = gradient(divergence(logits, other, 1.0), logits)
    # h itself: no regularisation at all.
    assert gradient((shares * ratios).sum(), logits).abs().max() < 1e-12
    # K3: that of KL(reference || policy).
    k3 = gradient((shares * (torch.exp(-ratios) - 1 + ratios)).sum(), logits)
    backwards = gradient((reference.exp() * (reference - policy)).sum(), logits)
    assert torch.allclose(k3, backwards, atol=1e-10)
    assert not torch.allclose(k3, forwards, atol=1e-2)


def test_a_pair_and_a_sample_by_hand() -> None:
    # h is 1, -1 and 0.5 nats; the sample's log-prob is -1.5 - 0.5.
    policy = torch.tensor([[[-1.0, 0.0], [-3.0, 0.0], [-1.5, -0.5]]], requires_grad=True)
    reference = torch.tensor([[[-2.0, 0.0], [-2.0, 0.0], [-1.5, -1.0]]])
    batch = Batch([[1]], [[[2], [3], [4, 5]]], sampled=1)
    loss, told = HyPO(beta=0.5, lmbda=0.2)(policy, reference, batch)
    offline = math.log1p(math.exp(-0.5 * 2))
    assert loss.item() == pytest.approx(offline + 0.2 * 0.5 * -2.0)
    assert told["samples/kl"].item() == pytest.approx(0.5)
    assert told["samples/length"].item() == 2
    assert told["rewards/margins"].item() == pytest.approx(1.0)
    loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad[0, 2].tolist() == pytest.approx([0.2 * 0.5] * 2)
    assert policy.grad[0, 0, 0] < 0 < policy.grad[0, 1, 0]


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
def test_it_is_the_naive_sum(baseline: str) -> None:
    generator = torch.Generator().manual_seed(0)
    said = [[[2] * n for n in lengths] for lengths in ([1, 4, 2, 3, 5], [3, 2, 5, 1, 1])]
    batch = Batch([[1], [1, 1]], said, columns={"online": torch.tensor([2.0, 1.0])}, sampled=3)
    policy, reference = -3 * torch.rand(2, 2, 5, 5, generator=generator)
    losses, told = HyPO(0.2, 0.4, baseline)(policy, reference, batch)
    for row in range(2):
        sums = [
            (policy[row, i, :n].sum().item(), reference[row, i, :n].sum().item())
            for i, n in enumerate(map(len, said[row]))
        ]
        h = [p - q for p, q in sums]
        terms = []
        for j in (2, 3, 4):
            others = [h[other] for other in (2, 3, 4) if other != j]
            taken = sum(others) / 2 if baseline == "leave_one_out" else 0
            terms.append((h[j] - taken) * sums[j][0])
        value = math.log1p(math.exp(-0.2 * (h[0] - h[1]))) + 0.4 * [2, 1][row] * sum(terms) / 3
        assert losses[row].item() == pytest.approx(value, rel=1e-5)
        assert told["samples/kl"][row].item() == pytest.approx(sum(h[2:]) / 3, abs=1e-5)


def test_without_samples_it_is_dpo() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = -torch.rand(2, 3, 2, 4, generator=generator)
    batch = Batch([[1]] * 3, [[[2] * 4, [3] * 2]] * 3, columns={"margin": torch.ones(3)})
    found, told = HyPO(0.3, 0.5, label_smoothing=0.1)(policy, reference, batch)
    loss, others = DPO(0.3, 0.1)(policy, reference, batch)
    assert torch.equal(found, loss)
    assert told.keys() == others.keys()


def test_one_sample_has_no_others() -> None:
    batch = Batch([[1]], [[[2], [3], [4]]], sampled=1)
    with pytest.raises(ValueError, match=r"got one sample\. Draw more"):
        HyPO(baseline="leave_one_out")(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), batch)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lmbda": -0.1}, "lmbda must be at least 0, got -0.1"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"label_smoothing": 0.5}, r"\[0, 0.5\)"),
    ],
)
def test_refuses(given: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        HyPO(**given)
