"""Bars with their intervals as SVG text; needs no display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BASELINES = ("plain", "cutoff-only")
BASELINE, METHOD = "#b8bec9", "#5b8fc7"
LONGEST = 36
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "contralign",
    "font.size": 9,
    "text.parse_math": False,
}


def bars(methods: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
    """Draw one panel a metric and one bar a method; baselines are gray.

    Args:
        methods: Of a report, drawn from the top down.
        metrics: One panel each, two beside each other.

    Returns:
        An `<svg>` element; the same numbers give the same text.
    """
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    with mpl.rc_context(STYLE):
        size = (9, rows * (0.75 + 0.26 * len(methods)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, metric in zip(panels, metrics, strict=False):
            _draw(panel, metric, methods)
        for panel in panels[len(metrics) :]:
            panel.set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw(panel: Axes, metric: str, methods: Sequence[Mapping[str, Any]]) -> None:
    ends = [0.0]
    for height, method in enumerate(methods):
        estimate = method["estimates"].get(metric)
        if estimate is None or estimate["value"] is None:
            panel.text(0, height, " none", va="center", color="#888888")
            continue
        color = BASELINE if method["decoding"].startswith(BASELINES) else METHOD
        panel.barh(height, estimate["value"], height=0.66, color=color)
        ends.append(estimate["value"])
        if estimate["low"] is not None:
            panel.hlines(height, estimate["low"], estimate["high"], color="#222222", linewidth=1.2)
            ends += [estimate["low"], estimate["high"]]
    if all(0 <= end <= 1 for end in ends):
        panel.set_xlim(0, 1)
    panel.set_title(metric, loc="left", fontweight="bold")
    panel.set_yticks(range(len(methods)), [_short(method["label"]) for method in methods])
    panel.set_ylim(len(methods) - 0.4, -0.6)
    panel.tick_params(length=0)
    panel.grid(axis="x", color="#e4e6ea", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)
    panel.axvline(0, color="#888888", linewidth=0.8)


def _short(label: str) -> str:
    """Leave out the middle of a long label, such as one with a path: bars need room."""
    return label if len(label) <= LONGEST else f"{label[:11]}…{label[-(LONGEST - 12) :]}"
