"""Log-probs and the Jensen-Shannon divergence, against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding.divergence import jsd, log_probs

INF = math.inf


def by_the_book(p: list[float], q: list[float]) -> float:
    """Entropy of the mean less the mean of the entropies: another formula than the subject's."""

    def entropy(values: list[float]) -> float:
        return -sum(x * math.log(x) for x in values if x > 0)

    return entropy([(a + b) / 2 for a, b in zip(p, q, strict=True)]) - (entropy(p) + entropy(q)) / 2


def test_log_probs_sum_to_one_and_keep_what_is_forbidden() -> None:
    logps = log_probs(torch.tensor([[3.0, -INF, 3.0], [0.0, 0.0, 0.0]]))
    assert logps.exp().sum(-1).tolist() == pytest.approx([1, 1])
    assert logps[0].tolist() == pytest.approx([-math.log(2), -INF, -math.log(2)])


def test_a_row_that_forbids_everything_counts_as_uniform() -> None:
    assert log_probs(torch.full((4,), -INF)).exp().tolist() == pytest.approx([0.25] * 4)


def test_divergence_by_hand() -> None:
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4):
    # (log 4/3) / 2 + (log 2/3 + log 2) / 4 = 0.1438 + 0.0719 = 0.2158
    first, second = torch.tensor([0.0, -INF]), torch.tensor([0.5, 0.5]).log()
    assert jsd(first, second).item() == pytest.approx(0.215762, abs=1e-6)


def test_equal_distributions_do_not_diverge() -> None:
    logps = log_probs(torch.tensor([[1.0, -INF, 30.0], [0.3, 0.2, 0.1]]))
    assert jsd(logps, logps).tolist() == pytest.approx([0, 0], abs=1e-7)


def test_distributions_without_a_common_token_diverge_by_log_two() -> None:
    first, second = torch.tensor([0.0, -INF]), torch.tensor([-INF, 0.0])
    assert jsd(first, second).item() == pytest.approx(math.log(2))


def test_agrees_with_entropies_row_by_row_and_is_symmetric() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 11, generator=generator, dtype=torch.float64)
    logits[:, :, 4] = -INF
    logits[0, :, 5] = -INF
    first, second = log_probs(logits[0]), log_probs(logits[1])
    expected = [
        by_the_book(p, q) for p, q in zip(first.exp().tolist(), second.exp().tolist(), strict=True)
    ]
    assert jsd(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    assert jsd(second, first).tolist() == pytest.approx(expected, abs=1e-12)


def test_survives_log_probs_far_below_the_smallest_float() -> None:
    first, second = log_probs(torch.tensor([0.0, -2000.0])), log_probs(torch.tensor([-2000.0, 0.0]))
    assert jsd(first, second).item() == pytest.approx(math.log(2))
