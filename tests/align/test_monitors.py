"""What a run is warned of: thresholds from both sides, two lines in a row, and each thing once."""

from __future__ import annotations

import math

import pytest

from contralign.align.monitors import Displacement, Standstill, Watch, saturation

STILL = {"rewards/margins": 0.0, "rewards/chosen": 0.0, "learning_rate": 1e-5}
SINKING = {"logps/chosen": -50.0, "logps/chosen_drift": -3.0, "logps/rejected_drift": -7.0}
FINE = {"logps/chosen": -50.0, "logps/chosen_drift": 1.0, "logps/rejected_drift": -7.0}


@pytest.mark.parametrize(
    ("chosen_drift", "rejected_drift", "chosen", "shows"),
    [
        (-1.01, -2.0, -50.0, True),
        (-1.0, -2.0, -50.0, False),
        (-5.01, -6.0, -500.0, True),
        (-4.99, -6.0, -500.0, False),
        (-3.0, -3.01, -50.0, True),
        (-3.0, -3.0, -50.0, False),
        (-3.0, 1.0, -50.0, False),
        (2.0, -9.0, -50.0, False),
    ],
)
def test_displacement_is_a_nat_and_a_percent_lost_and_more_by_the_rejected(
    chosen_drift: float, rejected_drift: float, chosen: float, shows: bool
) -> None:
    line = {
        "logps/chosen": chosen,
        "logps/chosen_drift": chosen_drift,
        "logps/rejected_drift": rejected_drift,
    }
    displacement = Displacement(lines=1)
    assert (displacement(line) is not None) is shows
    assert displacement.lines == (2 if shows else 0)


@pytest.mark.parametrize(
    ("course", "spoken"),
    [("s", ""), ("ss", "2"), ("sfs", ""), ("fsfss", "5"), ("sssss", "2"), ("ssfss", "2")],
)
def test_displacement_is_told_after_two_lines_in_a_row_and_once(course: str, spoken: str) -> None:
    watch = Watch()
    told = [watch({"s": SINKING, "f": FINE}[line], 1) for line in course]
    assert "".join(str(at) for at, texts in enumerate(told, 1) if texts) == spoken


def test_displacement_says_how_much_was_lost() -> None:
    text = Displacement(lines=1)(SINKING)
    assert text is not None
    assert "chosen answers lost 3.0 nats since the start (rejected ones 7.0)" in text


def test_a_line_without_drifts_says_nothing() -> None:
    displacement = Displacement(lines=1)
    assert displacement({"loss": 0.7}) is None
    assert displacement.lines == 0


@pytest.mark.parametrize(
    ("updates", "spoken"),
    [([9], []), ([10], [1]), ([4, 5, 1], [3]), ([25, 25], [1]), ([1] * 12, [10])],
)
def test_standstill_is_told_where_the_tenth_update_is_passed(
    updates: list[int], spoken: list[int]
) -> None:
    standstill = Standstill()
    told = [standstill(STILL, count) for count in updates]
    assert [at for at, text in enumerate(told, 1) if text] == spoken


@pytest.mark.parametrize(
    "other",
    [
        {"rewards/margins": 1e-9},
        {"rewards/chosen": -0.1},
        {"rewards/margins": None},
        {"learning_rate": 0.0},
        {"learning_rate": None},
    ],
)
def test_a_policy_that_moved_or_had_no_learning_rate_does_not_stand_still(
    other: dict[str, float | None],
) -> None:
    line = {name: value for name, value in {**STILL, **other}.items() if value is not None}
    assert Standstill()(line, 10) is None


def test_updates_without_a_learning_rate_do_not_count() -> None:
    standstill = Standstill()
    standstill({**STILL, "learning_rate": 0.0}, 30)
    assert standstill(STILL, 9) is None
    text = standstill(STILL, 3)
    assert text is not None
    assert text.startswith("after 12 updates policy and reference still")


def test_saturation_is_told_of_more_than_half_of_the_pairs() -> None:
    assert saturation({}) is None
    assert saturation({"rewards/saturated": 0.5}) is None
    text = saturation({"rewards/saturated": 0.75})
    assert text is not None
    assert "in 75% of the pairs (1 - lmbda) * |S_rejected|" in text


def test_watch_tells_each_thing_once_and_remembers_it() -> None:
    watch = Watch()
    line = {**STILL, **SINKING}
    assert watch(line, 10) == [watch.told["standstill"]]
    assert watch(line, 10) == [watch.told["displacement"]]
    assert watch(line, 10) == []
    assert list(watch.told) == ["standstill", "displacement"]


@pytest.mark.parametrize("odd", [math.nan, -math.inf])
def test_what_is_no_finite_number_says_nothing(odd: float) -> None:
    watch = Watch()
    lines = [{**SINKING, "logps/rejected_drift": odd}, {**SINKING, "logps/chosen": odd}]
    assert [watch(lines[0], 1), watch(lines[0], 1)] == [[], []]
    assert [watch(lines[1], 1), watch(lines[1], 1)] == [[], [watch.told["displacement"]]]
