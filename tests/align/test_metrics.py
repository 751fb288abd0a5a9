"""Means over examples and their errors by hand, a KL by hand, and who counts in the last round."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pair_batches import logps, pairs
from torch import Tensor
from torch.utils.data import BatchSampler

from contralign.align.batch import Batch
from contralign.align.metrics import (
    MEASURED,
    MOMENTS,
    Drift,
    Meter,
    correlated,
    measure,
    real_examples,
    tokens,
)

FINITE = st.floats(-1e3, 1e3)
BOTH = torch.tensor([True, True])


def alone(totals: Tensor) -> Tensor:
    """The sum over one process."""
    return totals


def metered(values: Sequence[float], real: Sequence[bool] | None = None) -> Meter:
    meter = Meter()
    counted = [True] * len(values) if real is None else real
    meter.add("x", torch.tensor(values), torch.tensor(counted))
    return meter


def read_together(meters: Sequence[Meter], errors: Collection[str] = ()) -> dict[str, float]:
    """What the last of several processes reads, whose totals are really added up."""
    told: list[Tensor] = []

    def add(totals: Tensor) -> Tensor:
        told.append(totals)
        return torch.stack(told).sum(0)

    return [meter.read(add, errors) for meter in meters][-1]


def test_a_mean_and_its_standard_error_by_hand() -> None:
    # Squared distances from 7/3: (16 + 1 + 25) / 9; a variance of 7/3 over n - 1, 7/9 over n too.
    read = metered([1.0, 2.0, 4.0]).read(alone, ["x"])
    assert read == {"x": pytest.approx(7 / 3), "x_se": pytest.approx(math.sqrt(7) / 3)}


@pytest.mark.parametrize(
    ("values", "real", "expected"),
    [
        ([1.0, 2.0, 4.0], [True, True, False], {"x": 1.5, "x_se": 0.5}),
        ([1.0, math.nan], [True, False], {"x": 1.0}),
        ([5.0], [True], {"x": 5.0}),
        ([5.0, 6.0], [False, False], {}),
        ([0.1, 0.1, 0.1], None, {"x": 0.1, "x_se": 0.0}),
    ],
)
def test_only_examples_that_are_there_count(
    values: list[float], real: list[bool] | None, expected: dict[str, float]
) -> None:
    assert metered(values, real).read(alone, ["x"]) == pytest.approx(expected, abs=1e-6)


def test_errors_are_of_those_asked_for() -> None:
    assert metered([1.0, 3.0]).read(alone, ["y"]) == {"x": 2.0}


def test_reading_starts_afresh() -> None:
    meter = metered([1.0, 3.0])
    assert meter.read(alone) == {"x": 2.0}
    assert meter.read(alone) == {}
    meter.add("x", torch.tensor([7.0]), torch.tensor([True]))
    assert meter.read(alone) == {"x": 7.0}


def test_sums_are_exact_where_float32_would_lose_what_is_small() -> None:
    meter = metered([2.0**25])
    meter.add("x", torch.tensor([1.0]), torch.tensor([True]))
    assert meter.read(alone) == {"x": (2.0**25 + 1) / 2}


def test_totals_hold_no_graph() -> None:
    meter = Meter()
    meter.add("x", torch.tensor([1.0], requires_grad=True), torch.tensor([True]))
    told: list[Tensor] = []
    meter.read(lambda totals: told.append(totals) or totals)
    assert not told[0].requires_grad


@given(st.lists(st.lists(FINITE, max_size=4), min_size=1, max_size=6), st.integers(1, 3))
def test_how_examples_were_cut_into_batches_and_processes_changes_nothing(
    batches: list[list[float]], processes: int
) -> None:
    meters = [Meter() for _ in range(processes)]
    for meter in meters:
        meter.add("x", torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    for number, values in enumerate(batches):
        drawn = torch.tensor(values, dtype=torch.float64)
        meters[number % processes].add("x", drawn, torch.ones(len(values), dtype=torch.bool))
    every = [value for values in batches for value in values]
    expected = {}
    if every:
        expected["x"] = np.mean(every)
    if len(every) > 1:
        expected["x_se"] = np.std(every, ddof=1) / math.sqrt(len(every))
    assert read_together(meters, ["x"]) == pytest.approx(expected, abs=1e-4)


def test_measures_a_batch_by_hand() -> None:
    """Two examples, of which the second only stands in."""
    batch = Batch([[1, 2, 3], [1]], [[[5, 6], [7]], [[8, 9], [8, 9]]])
    policy = torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]], [[-9.0, -9.0], [-9.0, -9.0]]])
    reference = torch.tensor([[[-1.5, -1.0], [-4.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    entropy = torch.tensor([[[0.5, 1.5], [4.0, 99.0]], [[9.0, 9.0], [9.0, 9.0]]])
    meter = Meter()
    measure(meter, batch, policy, reference, entropy, torch.tensor([True, False]))
    # Log-ratios of the three tokens: 0.5, -1, 0.
    kl = ((math.exp(0.5) - 1 - 0.5) + (math.exp(-1.0) - 1 + 1) + 0) / 3
    expected = {
        "logps/chosen": -3.0,
        "logps/rejected": -4.0,
        "logps/chosen_drift": -0.5,
        "logps/rejected_drift": 0.0,
        "lengths/prompt": 3.0,
        "lengths/chosen": 2.0,
        "lengths/rejected": 1.0,
        "kl": kl,
        "entropy": 2.0,
    }
    assert meter.read(alone) == pytest.approx(expected, rel=1e-6)
    of_losses = ("rewards/", "scores/", "completions/")
    assert expected.keys() == {name for name in MEASURED if not name.startswith(of_losses)}


def test_without_a_reference_there_is_no_kl_and_drift_is_the_log_prob() -> None:
    batch, policy = pairs([(1, 2)]), logps([(1, 2)], seed=0)
    meter = Meter()
    measure(meter, batch, policy, None, None, torch.tensor([True]))
    read = meter.read(alone)
    assert read.keys().isdisjoint({"kl", "entropy"})
    assert read["logps/rejected_drift"] == read["logps/rejected"] == float(policy[0, 1].sum())


@pytest.mark.parametrize("k", [1, 3])
def test_groups_of_any_size_can_be_measured(k: int) -> None:
    batch = Batch([[1]], [[[2]] * k])
    meter = Meter()
    measure(meter, batch, torch.full((1, k, 1), -1.0), None, None, torch.tensor([True]))
    named = {name for name in meter.read(alone) if name.startswith("lengths/")}
    assert named == {"lengths/prompt", *[f"lengths/{side}" for side in ("chosen", "rejected")[:k]]}


@given(arrays(np.float64, (2, 2, 3), elements=st.floats(-20, 0)), st.integers(0, 9))
def test_kl_is_at_least_zero(policy: np.ndarray, seed: int) -> None:
    lengths = [(1, 3), (2, 2)]
    meter = Meter()
    measure(meter, pairs(lengths), torch.tensor(policy), logps(lengths, seed), None, BOTH)
    assert meter.read(alone)["kl"] >= 0


def test_kl_of_tokens_drawn_from_the_reference_is_that_of_reference_to_policy() -> None:
    """Half of all tokens are a, the others b: just what the reference would say."""
    policy, reference = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
    batch = Batch([[1]], [[[2], [3]]])
    meter = Meter()
    said = [side.view(1, 2, 1) for side in (policy, reference)]
    measure(meter, batch, *said, None, torch.tensor([True]))
    exact = float((reference.exp() * (reference - policy)).sum())
    assert meter.read(alone)["kl"] == pytest.approx(exact, rel=1e-5)


def test_kl_of_tokens_drawn_from_the_policy_is_that_of_policy_to_reference() -> None:
    policy, reference = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log()
    batch = Batch([[1]], [[[2], [3]]], sampled=2)
    meter = Meter()
    said = [side.view(1, 2, 1) for side in (policy, reference)]
    measure(meter, batch, *said, None, torch.tensor([True]))
    exact = float((policy.exp() * (policy - reference)).sum())
    assert meter.read(alone)["kl"] == pytest.approx(exact, rel=1e-5)


def test_samples_beside_a_pair_are_measured_apart() -> None:
    policy, reference = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.0, -1.0, -1.5]])
    batch, meter = Batch([[1]], [[[2], [3], [4]]], sampled=1), Meter()
    measure(meter, batch, policy[..., None], reference[..., None], None, torch.tensor([True]))
    read = meter.read(alone)
    assert (read["logps/chosen"], read["logps/rejected"]) == (-1.0, -2.0)
    assert read["kl"] == pytest.approx(math.exp(-1) - 1 + 1)


def test_of_a_group_the_first_and_the_last_are_named() -> None:
    meter = Meter()
    policy = torch.tensor([[[-1.0], [-2.0], [-3.0]]])
    measure(meter, Batch([[1]], [[[2]] * 3]), policy, None, None, torch.tensor([True]))
    read = meter.read(alone)
    assert (read["logps/chosen"], read["logps/rejected"]) == (-1.0, -3.0)


def test_moments_become_a_correlation() -> None:
    implied, scores = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    moments = [(implied * scores).mean(), implied.square().mean(), scores.square().mean()]
    found = correlated({"kl": 1.0, **dict(zip(MOMENTS, map(float, moments), strict=True))})
    expected = float(moments[0] / (moments[1] * moments[2]).sqrt())
    assert found == {"kl": 1.0, "rewards/correlation": pytest.approx(expected)}
    assert correlated({"kl": 1.0, MOMENTS[0]: 0.0, MOMENTS[1]: 0.0, MOMENTS[2]: 2.0}) == {"kl": 1.0}
    assert correlated({"kl": 1.0}) == {"kl": 1.0}


DRIFTED = {"logps/chosen_drift": -3.0, "logps/rejected_drift": -5.0, "kl": 0.5}


def test_a_drift_that_is_exact_stays_as_it_is() -> None:
    assert Drift(exact=True)(DRIFTED) == DRIFTED


def test_other_drifts_count_from_the_first_line_of_their_data_set() -> None:
    drift = Drift(exact=False)
    later = {"logps/chosen_drift": -4.0, "logps/rejected_drift": -4.0, "kl": 0.7}
    moved = {"logps/chosen_drift": -1.0, "logps/rejected_drift": 1.0}
    still = {"logps/chosen_drift": 0.0, "logps/rejected_drift": 0.0}
    assert drift(DRIFTED) == {**DRIFTED, **still}
    assert drift(later) == {**later, **moved}
    assert drift(later, "eval_") == {**later, **still}
    assert drift({"loss": 1.0}) == {"loss": 1.0}
    assert Drift(exact=False, first=drift.first)(later, "eval_") == {**later, **still}
    assert DRIFTED["logps/chosen_drift"] == -3.0


@pytest.mark.parametrize(("examples", "expected"), [(None, 13), (2, 13), (1, 6), (0, 0)])
def test_tokens_of_the_first_examples_each_prompt_once(examples: int | None, expected: int) -> None:
    batch = Batch([[1, 1, 1], [1]], [[[2], [2, 2]], [[2, 2, 2, 2], [2, 2]]])
    assert tokens(batch, examples) == expected


def shards(count: int, share: int, processes: int, split: bool) -> list[list[list[int]]]:
    """Each process's batches of an epoch, as accelerate cuts them."""
    size = share * processes if split else share
    return [
        [
            list(batch)
            for batch in BatchSamplerShard(
                BatchSampler(range(count), size, drop_last=False),
                processes,
                process,
                split_batches=split,
                even_batches=True,
            )
        ]
        for process in range(processes)
    ]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_real_examples_are_those_that_accelerate_gives_for_the_first_time(
    processes: int, split: bool
) -> None:
    for count, share in product(range(1, 31), range(1, 6)):
        rounds = shards(count, share, processes, split)
        seen = {example for batches in rounds for batch in batches[:-1] for example in batch}
        for process, (*_, last) in enumerate(rounds):
            fresh = set(last) - seen
            found = real_examples(len(last), count % (share * processes), share, process)
            assert set(last[:found]) == fresh, (count, share, process)
            assert len(fresh) == found
            seen |= fresh
        assert seen == set(range(count))


@pytest.mark.parametrize("remainder", [0, -1])
def test_all_are_real_where_the_round_is_full_or_nothing_is_known(remainder: int) -> None:
    assert real_examples(3, remainder, share=4, process=1) == 3
