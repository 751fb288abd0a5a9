"""The course of a run as pictures: curves.png and curves.html, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

History = Sequence[Mapping[str, Any]]
Series = tuple[list[float], list[float]]

BLUE, RED, GRAY, GREEN = "#3b6ea8", "#b8524a", "#8a919e", "#2f8f6b"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "contralign",
    "font.size": 9,
    "text.parse_math": False,
}
CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2129; max-width: 66rem; margin: 2.5rem auto;
  padding: 0 1.2rem; background: #fff }
h1 { font-size: 1.6rem; margin-bottom: .2rem } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid #e4e6ea }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: #5a6270 }
.note { background: #fff6e0; border-left: 3px solid #e0a800; padding: .4rem .8rem; margin: .5rem 0 }
"""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: What it shows, with its unit.
        lines: Name in the log -> label and color.
        level: Where a gray line marks "nothing learned".
        bounds: Of the vertical axis; None fits it.
    """

    title: str
    lines: Mapping[str, tuple[str, str]]
    level: float | None = None
    bounds: tuple[float, float] | None = None


PANELS = (
    Panel("Loss", {"loss": ("", BLUE)}),
    Panel(
        "Mean negative log-prob of a token (nats)",
        {"nll/chosen": ("chosen", GREEN), "nll/rejected": ("rejected", RED)},
    ),
    Panel("Reward margin, chosen less rejected", {"rewards/margins": ("", BLUE)}, level=0),
    Panel(
        "Pairs ranked right",
        {"rewards/accuracies": ("", BLUE)},
        level=0.5,
        bounds=(-0.03, 1.03),
    ),
    Panel(
        "Log-prob gained since the start (nats)",
        {"logps/chosen_drift": ("chosen", GREEN), "logps/rejected_drift": ("rejected", RED)},
        level=0,
    ),
    Panel(
        "Log-prob of an answer (nats)",
        {"logps/chosen": ("chosen", GREEN), "logps/rejected": ("rejected", RED)},
    ),
    Panel("Mean score of the completions", {"scores/mean": ("", BLUE)}),
    Panel(
        "Correlation of implicit rewards with scores",
        {"rewards/correlation": ("", BLUE)},
        level=0,
    ),
    Panel("KL to the reference (nats a token)", {"kl": ("", BLUE)}, level=0),
    Panel("KL on samples of the policy (nats an answer)", {"samples/kl": ("", BLUE)}, level=0),
)


def write_curves(history: History, folder: Path, title: str, notes: Sequence[str] = ()) -> None:
    """Draw a run.

    Args:
        history: `trainer.state.log_history`.
        folder: Gets curves.png and curves.html.
        title: Of the page.
        notes: What was noticed during the run.
    """
    panels = [panel for panel in PANELS if any(_shown(history, name) for name in panel.lines)]
    if not panels:
        return
    with mpl.rc_context(STYLE):
        figure = _draw(history, panels)
        figure.savefig(folder / "curves.png", dpi=150)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    drawn = text.getvalue()
    page = _page(drawn[drawn.index("<svg") :], history, title, notes)
    (folder / "curves.html").write_text(page, encoding="utf-8")


def train_series(history: History, name: str) -> Series:
    """Steps and values of a number in the lines that training logged."""
    lines = [line for line in history if name in line and "train_runtime" not in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


def eval_series(history: History, name: str) -> dict[str, Series]:
    """The same in evaluations, for each data set: under "" where there is one."""
    found: dict[str, Series] = {}
    for line in history:
        for key, value in line.items():
            if key.startswith("eval_") and key.endswith(f"_{name}"):
                steps, values = found.setdefault(key[5 : -len(name) - 1], ([], []))
                steps.append(line["step"])
                values.append(value)
    return found


def _shown(history: History, name: str) -> bool:
    return bool(train_series(history, name)[0] or eval_series(history, name))


def _draw(history: History, panels: Sequence[Panel]) -> Figure:
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.1 * columns, 2.7 * rows + 0.35), layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.11, h_pad=0.09)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, history)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    evaluated = any(eval_series(history, name) for panel in panels for name in panel.lines)
    text = "line: training" + (", dots: evaluation" if evaluated else "")
    figure.supxlabel(f"updates    ({text})", fontsize=8.5, color="#5a6270")
    return figure


def _draw_panel(axis: Axes, panel: Panel, history: History) -> None:
    if panel.level is not None:
        axis.axhline(panel.level, color="#a9b0bc", linewidth=1, zorder=0)
    for name, (label, color) in panel.lines.items():
        steps, values = train_series(history, name)
        alone: Any = {"marker": ".", "linestyle": ""} if len(steps) == 1 else {}
        if steps:
            axis.plot(steps, values, color=color, linewidth=1.3, alpha=0.75, label=label, **alone)
        for number, (data, (at, found)) in enumerate(eval_series(history, name).items()):
            axis.plot(
                at,
                found,
                color=color,
                marker="os^D"[number % 4],
                markersize=4.5,
                markeredgecolor="white",
                linewidth=0.9,
                linestyle=":",
                label=f"{label} {data}".strip() if data or not steps else "",
            )
    if panel.bounds:
        axis.set_ylim(*panel.bounds)
    if any(not str(line.get_label()).startswith("_") and line.get_label() for line in axis.lines):
        axis.legend(frameon=False, fontsize=8)
    axis.set_title(panel.title, loc="left", fontweight="bold", fontsize=9.5)
    axis.grid(color="#eceef1", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(length=0, labelsize=8)
    axis.spines[:].set_visible(False)


def _page(svg: str, history: History, title: str, notes: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("", "first", "last", "lowest", "highest"))
    rows = "\n".join(f"<tr>{_cells(name, values)}</tr>" for name, values in _numbers(history))
    said = "\n".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n{said}\n{svg}\n<div class="scroll"><table>\n'
        f"<tr>{head}</tr>\n{rows}\n</table></div>\n</body>\n</html>\n"
    )


def _numbers(history: History) -> list[tuple[str, list[float]]]:
    names = dict.fromkeys(name for panel in PANELS for name in panel.lines)
    series = [(f"training: {name}", train_series(history, name)[1]) for name in names]
    for name in names:
        for data, (_, values) in eval_series(history, name).items():
            series.append((f"evaluation {data}".strip() + f": {name}", values))
    return [(name, values) for name, values in series if values]


def _cells(name: str, values: Sequence[float]) -> str:
    numbers = (values[0], values[-1], min(values), max(values))
    return f"<td>{escape(name)}</td>" + "".join(f"<td>{number:.4g}</td>" for number in numbers)
