"""Intervals and tests: numbers by hand, laws, and naive loops as references."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.eval.statistics import (
    Paired,
    holm,
    mean_estimate,
    paired,
    ratio,
    total_estimates,
)

bits = st.integers(0, 1)


def test_wilson_by_hand() -> None:
    # 8 of 10, z^2 = 3.8415: center (0.8 + 0.19207) / 1.38415 = 0.71674,
    # half 1.95996 * sqrt(0.016 + 0.0096037) / 1.38415 = 0.22658.
    estimate = mean_estimate([1] * 8 + [0] * 2)
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert estimate.low == pytest.approx(0.49016, abs=1e-5)
    assert estimate.high == pytest.approx(0.94332, abs=1e-5)


@given(st.lists(bits, min_size=1, max_size=40))
def test_wilson_bounds_are_where_the_score_test_says_five_percent(values: list[int]) -> None:
    estimate = mean_estimate(values)
    for bound in (estimate.low, estimate.high):
        z_squared = (estimate.value - bound) ** 2 * estimate.n
        assert z_squared == pytest.approx(3.841458821 * bound * (1 - bound), abs=1e-9)


def test_no_values_are_no_estimate() -> None:
    estimate = mean_estimate([])
    assert estimate.n == 0
    assert all(math.isnan(x) for x in (estimate.value, estimate.low, estimate.high))


def test_one_value_between_0_and_1_has_a_mean_but_no_interval() -> None:
    estimate = mean_estimate([0.25])
    assert (estimate.value, estimate.n) == (0.25, 1)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_one_binary_value_has_a_wide_interval() -> None:
    # 1 of 1: low = 1 / (1 + 3.8415) = 0.20655.
    estimate = mean_estimate([True])
    assert estimate.low == pytest.approx(0.20655, abs=1e-5)
    assert estimate.high == 1


def test_the_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    generator = random.Random(0)
    values = [generator.random() for _ in range(400)]
    estimate = mean_estimate(values)
    mean = sum(values) / 400
    half = 1.96 * math.sqrt(sum((x - mean) ** 2 for x in values) / 400**2)
    assert estimate.value == pytest.approx(mean)
    assert estimate.low == pytest.approx(mean - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(mean + half, abs=0.1 * half)


def test_the_bootstrap_gives_the_same_interval_twice() -> None:
    values = [0.1, 0.4, 0.5, 0.9]
    assert mean_estimate(values) == mean_estimate(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="at index 1"):
        mean_estimate([1.0, bad])
    with pytest.raises(ValueError, match="values_b"):
        paired([1.0, 0.0], [0.0, bad])


def test_mcnemar_by_hand() -> None:
    # 5 wins, 1 loss, 4 ties: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    a = [1, 1, 1, 1, 1, 0, 1, 1, 0, 0]
    b = [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    result = paired(a, b)
    assert result.p == 14 / 64
    assert (result.difference, result.n, result.wins, result.losses) == (0.4, 10, 5, 1)
    # Agresti and Min: center 4 / 12, half 1.95996 * sqrt(7 - 16 / 12) / 12 = 0.38880.
    assert result.low == pytest.approx(1 / 3 - 0.38880, abs=1e-5)
    assert result.high == pytest.approx(1 / 3 + 0.38880, abs=1e-5)


def test_equal_answers_leave_an_interval_that_narrows_with_the_items() -> None:
    few, many = paired([1, 0], [1, 0]), paired([1, 0] * 100, [1, 0] * 100)
    assert (few.p, few.difference) == (1, 0)
    assert few.low < many.low < 0 < many.high < few.high


@given(st.lists(st.tuples(bits, bits), min_size=1, max_size=12))
def test_mcnemar_is_the_sign_flip_test_of_binary_values(pairs: list[tuple[int, int]]) -> None:
    result = paired([a for a, _ in pairs], [b for _, b in pairs])
    assert result.p == pytest.approx(naive_sign_flip([a - b for a, b in pairs]))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8))
def test_few_differences_get_the_exact_sign_flip_test(values: list[float]) -> None:
    result = paired([x + 0.5 for x in values], [0.5] * len(values))
    assert result.p == pytest.approx(naive_sign_flip([x + 0.5 - 0.5 for x in values]), abs=1e-12)


def naive_sign_flip(differences: list[float]) -> float:
    observed = abs(math.fsum(differences))
    sums = [
        abs(math.fsum(sign * x for sign, x in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    near = 1e-9 * math.fsum(abs(x) for x in differences)
    return sum(s >= observed - near for s in sums) / len(sums)


def test_sign_flips_by_hand() -> None:
    # Differences 0.5, 0.25, 0.25: only +++ and --- reach 1.0, 2 of 8 patterns.
    assert paired([0.5, 0.5, 0.75], [0.0, 0.25, 0.5]).p == 0.25


def test_many_differences_are_sampled_and_agree_with_the_normal_limit() -> None:
    generator = random.Random(1)
    differences = [generator.gauss(0.15, 1) for _ in range(200)]
    p = paired(differences, [0.0] * 200).p
    z = abs(sum(differences)) / math.sqrt(sum(x * x for x in differences))
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


def test_a_sampled_p_value_is_never_zero() -> None:
    assert paired([0.9] * 40, [0.1] * 40).p == 1 / 10_001


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10))
def test_swapping_the_sides_mirrors_the_comparison(pairs: list[tuple[float, float]]) -> None:
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    forth, back = paired(a, b), paired(b, a)
    assert forth.difference == pytest.approx(-back.difference)
    assert (forth.wins, forth.losses, forth.p) == (back.losses, back.wins, back.p)


def test_no_items_are_no_evidence() -> None:
    result = paired([], [])
    assert isinstance(result, Paired)
    assert math.isnan(result.difference)
    assert math.isnan(result.p)
    assert result.n == 0


def test_refuses_lists_of_different_items() -> None:
    with pytest.raises(ValueError, match=r"got 2 and 1.*both"):
        paired([1, 0], [1])


def test_holm_by_hand() -> None:
    # 0.01 * 3, 0.03 * 2, then 0.04 * 1 raised to the 0.06 before it.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    adjusted = holm({str(i): p for i, p in enumerate(p_values)})
    rejected: set[str] = set()
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - rank) * p_values[i] > 0.05:
            break
        rejected.add(str(i))
    assert {name for name, p in adjusted.items() if p <= 0.05} == rejected


def test_holm_refuses_what_is_not_a_probability() -> None:
    with pytest.raises(ValueError, match="'a'"):
        holm({"a": 1.5})


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    # 1/2 and 3/3 of two captions: 4/5, not 3/4.
    counts = np.array([[1.0, 2.0], [3.0, 3.0]])
    found = total_estimates(counts, {"share": (lambda t: ratio(t[:, 0], t[:, 1]), 5)})["share"]
    assert (found.value, found.n) == (4 / 5, 5)
    assert (found.low, found.high) == (1 / 2, 1)


def test_draws_without_a_value_are_left_out_and_none_gives_nan() -> None:
    def share(totals: Any) -> Any:
        return ratio(totals[:, 0], totals[:, 1])

    rare = np.array([[1.0, 1.0], *[[0.0, 0.0]] * 3])
    found = total_estimates(rare, {"a": (share, 1)})["a"]
    assert (found.value, found.low, found.high) == (1, 1, 1)
    for counts in (np.zeros((3, 2)), np.zeros((0, 2)), np.array([[1.0, 2.0]])):
        found = total_estimates(counts, {"a": (share, 0)})["a"]
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_the_bootstrap_of_totals_is_that_of_means() -> None:
    values = np.random.default_rng(1).integers(0, 5, 200).astype(float)
    counts = np.stack([values, np.ones(200)], axis=1)
    drawn = total_estimates(counts, {"a": (lambda t: ratio(t[:, 0], t[:, 1]), 200)})["a"]
    plain = mean_estimate([*values])
    assert drawn.value == plain.value
    assert (drawn.low, drawn.high) == pytest.approx((plain.low, plain.high), abs=0.03)
