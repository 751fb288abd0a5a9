from __future__ import annotations

from contralign.eval.ask import Scored
from contralign.eval.statistics import mean_estimate
from contralign.eval.summary import summarize

SCORED = [
    Scored({"id": "1", "kind": "x"}, "", {"em": 1.0, "rare": None}),
    Scored({"id": "2", "kind": "y"}, "", {"em": 0.0, "rare": 0.5}),
    Scored({"id": "3", "kind": "x"}, "", {"em": 0.0}),
]


def test_estimates_stand_in_order_overall_before_groups() -> None:
    assert list(summarize(SCORED, ("em", "rare"), "kind")) == ["em", "em/x", "em/y", "rare"]


def test_each_group_is_estimated_from_its_own_rows() -> None:
    summary = summarize(SCORED, ("em",), "kind")

    assert summary["em"] == mean_estimate([1, 0, 0])
    assert summary["em/x"] == mean_estimate([1, 0])
    assert summary["em/y"] == mean_estimate([0])


def test_missing_and_unparsed_values_do_not_count() -> None:
    assert summarize(SCORED, ("rare",), "kind")["rare"] == mean_estimate([0.5])


def test_without_a_group_or_without_rows_only_the_total_is_there() -> None:
    assert list(summarize(SCORED, ("em",))) == ["em"]
    assert summarize([], ("em",), "kind")["em"].n == 0
