"""Markdown: aligned tables, signs and brackets, and one line for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from eval_doubles import Adder, Sums

from contralign.decoding import parse_list
from contralign.eval.markdown import aligned, interval, markdown
from contralign.eval.report import build_report
from contralign.eval.runner import run


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    model = Adder()
    model.failing = {"0 + 1 ="}
    result = run(Sums(), model, parse_list("greedy,cutoff-only"), tmp_path, batch_size=4)
    return build_report(result, "contralign eval sums")


def test_an_interval_is_a_value_with_its_bounds() -> None:
    estimate = {"value": 0.8, "low": 0.49016, "high": 0.94332}
    assert interval(estimate) == "0.800 [0.490, 0.943]"
    difference = {"difference": -0.1, "low": -0.2, "high": 0.0}
    assert interval(difference, sign=True) == "-0.100 [-0.200, +0.000]"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (None, ""),
        ({"value": None, "low": None, "high": None}, "none"),
        ({"value": 0.25, "low": None, "high": None}, "0.250"),
    ],
)
def test_what_is_unknown_is_not_made_up(estimate: dict[str, Any] | None, text: str) -> None:
    assert interval(estimate) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned((["method", "em"], [["a|b", "0.5"], ["greedy", "1"]])).splitlines() == [
        "| method |  em |",
        "| :----- | --: |",
        "| a\\|b   | 0.5 |",
        "| greedy |   1 |",
    ]


def test_the_headline_comes_first_and_every_method_has_a_row(report: dict[str, Any]) -> None:
    text = markdown(report)
    assert text.startswith("# sums: right\n")
    headline = text.split("## All metrics")[0]
    # Without the failing rows 9 of 10 are right; greedy misses row7, cutoff-only row8.
    assert "| greedy      | 0.900 [0.596, 0.982] |  10 |" in headline
    assert "+0.000 [" in headline
    assert headline.count("| cutoff-only") == 1


def test_missing_baselines_and_errors_are_said(report: dict[str, Any]) -> None:
    text = markdown(report)
    assert "Baselines not run: sample." in text
    assert "greedy: 2 rows have an error" in text
    assert "row0: RuntimeError: cannot add" in text


def test_tiny_p_values_are_not_zero(report: dict[str, Any]) -> None:
    report["methods"][1]["against_greedy"]["p"] = 1e-9
    assert "<0.001" in markdown(report)
