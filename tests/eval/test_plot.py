"""The plot: valid SVG, the same for the same numbers, one bar a method."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from contralign.eval.plot import BASELINE, METHOD, bars

NOTHING = {"value": None, "low": None, "high": None}


def method(label: str, **estimates: Any) -> dict[str, Any]:
    return {"label": label, "decoding": f"{label}@greedy", "estimates": estimates}


def value(number: float) -> dict[str, float]:
    return {"value": number, "low": number - 0.1, "high": number + 0.1}


def test_it_is_an_svg_that_names_methods_and_metrics() -> None:
    svg = bars([method("plain", em=value(0.4)), method("cad", em=value(0.5))], ["em"])
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert {"plain", "cad", "em"} <= set(texts)
    assert svg.startswith("<svg")


def test_baselines_are_gray() -> None:
    def fills(label: str) -> tuple[int, int]:
        svg = bars([method(label, em=value(0.4))], ["em"])
        return svg.count(BASELINE), svg.count(METHOD)

    assert fills("plain") == fills("cutoff-only") == (1, 0)
    assert fills("cad") == (0, 1)


def test_the_middle_of_a_long_label_is_left_out() -> None:
    path = "cd:amateur=/a/long/path/" + "to/" * 40 + "amateur"
    svg = bars([method(path, em=value(0.4))], ["em", "f1"])
    assert path not in svg
    assert ">cd:amateur=…o/to/to/to/to/to/amateur<" in svg


def test_the_same_numbers_give_the_same_text() -> None:
    methods = [method("plain", em=value(0.4), f1=value(0.6), length=value(12.0))]
    metrics = ["em", "f1", "length"]
    assert bars(methods, metrics) == bars(methods, metrics)


def test_what_is_missing_is_said_and_what_has_no_interval_has_no_line() -> None:
    exact = {"value": 0.3, "low": None, "high": None}
    svg = bars([method("plain", em=NOTHING), method("cad"), method("cd", em=exact)], ["em"])
    assert svg.count(" none<") == 2


def test_dollars_in_a_label_are_no_formula() -> None:
    assert "a$b$c" in bars([method("a$b$c", em=value(0.4))], ["em"])
