"""Splits worked out by hand, and what no split can be made of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.align.mpo import Rule, gaps, split
from contralign.align.mpo.files import edges

GAPS = [3.0, -1.0, 1.0, 0.0, -2.0, 2.0]
# rule -> gamma, easy, difficult, dropped, flipped
TABLE: list[tuple[Rule, float, list[int], list[int], list[int], list[int]]] = [
    (Rule(gamma=2.0), 2.0, [0, 5], [1, 2, 3, 4], [], []),
    (Rule(gamma=1.5), 1.5, [0, 5], [1, 2, 3, 4], [], []),
    # A tie tells nothing apart.
    (Rule(gamma=0.0), 0.0, [0, 2, 5], [1, 3, 4], [], []),
    (Rule(gamma=-9.0), -9.0, [0, 2, 5], [1, 3, 4], [], []),
    (Rule(gamma=2.0, negative="drop"), 2.0, [0, 5], [2, 3], [1, 4], []),
    (Rule(gamma=2.0, negative="flip"), 2.0, [0, 4, 5], [1, 2, 3], [], [1, 4]),
    # Sorted: -2 -1 0 1 2 3, of which the middle is 0.5.
    (Rule(), 0.5, [0, 2, 5], [1, 3, 4], [], []),
    (Rule(quantile=0.8), 2.0, [0, 5], [1, 2, 3, 4], [], []),
    # 0 1 2 3 are left.
    (Rule(quantile=0.5, negative="drop"), 1.5, [0, 5], [2, 3], [1, 4], []),
    # 0 1 1 2 2 3.
    (Rule(quantile=0.5, negative="flip"), 1.5, [0, 4, 5], [1, 2, 3], [], [1, 4]),
]


@pytest.mark.parametrize(("rule", "gamma", "easy", "difficult", "dropped", "flipped"), TABLE)
def test_by_hand(
    rule: Rule,
    gamma: float,
    easy: list[int],
    difficult: list[int],
    dropped: list[int],
    flipped: list[int],
) -> None:
    made = split(GAPS, rule)
    assert made.gamma == pytest.approx(gamma)
    assert (made.easy, made.difficult) == (easy, difficult)
    assert (made.dropped, made.flipped) == (dropped, flipped)


def test_a_gap_is_chosen_less_rejected() -> None:
    assert gaps([[1.5, 1.0], [0.0, 2.0]]) == [0.5, -2.0]


def test_a_gap_of_gamma_is_easy_however_it_is_rounded() -> None:
    found = gaps([(1.0, 0.8), (0.9, 0.5), (0.3, 0.2), (0.0, 0.0)])
    assert found[0] < 0.2
    made = split(found, Rule(gamma=0.2))
    assert (made.easy, made.difficult) == ([0, 1], [2, 3])
    assert split(found, Rule(gamma=0.2001)).easy == [1]


def test_what_is_told() -> None:
    told = split(GAPS, Rule(gamma=1.0, negative="drop")).summary()
    assert told["negative_share"] == pytest.approx(2 / 6)
    assert [told[name] for name in ("pairs", "easy", "difficult", "dropped")] == [6, 3, 1, 2]
    assert told["ties"] == 1
    assert told["quantiles"]["0.0"] == -2.0
    assert told["quantiles"]["0.5"] == 0.5


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1),
    st.sampled_from(["difficult", "drop", "flip"]),
    st.floats(0.01, 0.99),
)
def test_each_pair_is_on_one_side(found: list[float], negative: Any, quantile: float) -> None:
    try:
        made = split(found, Rule(quantile=quantile, negative=negative))
    except ValueError:
        return
    assert sorted([*made.easy, *made.difficult, *made.dropped]) == list(range(len(found)))
    better = {i: abs(found[i]) if i in made.flipped else found[i] for i in range(len(found))}
    assert all(better[i] >= made.gamma and better[i] > 0 for i in made.easy)
    assert all(better[i] < made.gamma or better[i] <= 0 for i in made.difficult)


EMPTY: list[tuple[list[float], Rule, str]] = [
    (GAPS, Rule(gamma=3.5), r"got 0 easy and 6 difficult .* 0.5 at 0.5.*Lower gamma"),
    ([1.0, 2.0], Rule(gamma=0.5), "got 2 easy and 0 difficult .*Raise gamma"),
    ([-1.0, -2.0], Rule(), "got 0 easy and 2 difficult .*negative_gaps: flip"),
    ([-1.0, -2.0], Rule(negative="drop"), "got 0 easy and 0 difficult .2 dropped.*another neg"),
    ([1.0, 1.0], Rule(quantile=0.9), "got 2 easy and 0 difficult .* no gamma splits"),
    ([0.0, 0.0], Rule(), "got 0 easy and 2 difficult .* no gamma splits"),
    ([0.0, -1.0], Rule(), "got 0 easy and 2 difficult .*Lower gamma"),
]


@pytest.mark.parametrize(("found", "rule", "told"), EMPTY)
def test_an_empty_side_is_refused(found: list[float], rule: Rule, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        split(found, rule)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 2.0, -1.5, 9.0, 1e-9])
def test_bins_begin_at_0_and_at_gamma(gamma: float) -> None:
    bins = edges([*GAPS, 0.7], gamma)
    assert 0.0 in bins
    if abs(gamma) not in (9.0, 1e-9):
        assert abs(gamma) in bins
        assert any(-abs(gamma) < place < -abs(gamma) + 1e-9 for place in bins) or gamma == 0
    assert bins[0] <= -2.0
    assert bins[-1] > 3.0
    assert len(bins) < 30
    widths = [b - a for a, b in pairwise(bins)]
    assert max(widths) == pytest.approx(min(widths))


def test_bins_of_equal_gaps() -> None:
    assert 0.0 in edges([0.0, 0.0], 0.0)
    assert edges([2.0, 2.0], 1.0)[-1] > 2.0


RULES: list[tuple[dict[str, Any], str]] = [
    ({"quantile": 0.0}, r"gamma_quantile must lie in \(0, 1\), got 0.0"),
    ({"quantile": 1.0}, r"gamma_quantile must lie in \(0, 1\), got 1.0"),
    ({"gamma": float("nan")}, "gamma must be a finite number, got nan"),
    ({"gamma": 1.0, "quantile": 0.5}, "gamma is a value or a quantile, got gamma 1.0 and"),
    ({"negative": "keep"}, "negative_gaps is one of difficult, drop, flip, got 'keep'"),
]


@pytest.mark.parametrize(("given", "told"), RULES)
def test_a_rule_that_says_nothing_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Rule(**given)
