"""A report as one self-contained HTML page: no script, no file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .markdown import (
    Report,
    Table,
    cost_table,
    headline_table,
    metrics_table,
    notes,
    summary_line,
)
from .plot import bars

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2129; max-width: 62rem; margin: 2.5rem auto;
  padding: 0 1.2rem; background: #fff }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.4rem }
.scroll { overflow-x: auto } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid #e4e6ea;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { font-weight: 600; color: #5a6270 }
.note { background: #fff6e0; border-left: 3px solid #e0a800; padding: .4rem .8rem; margin: .5rem 0 }
.example { border: 1px solid #e4e6ea; border-radius: 6px; padding: .7rem 1rem; margin: 1rem 0 }
.example .id { color: #5a6270; font-size: 12px }
.prompt { white-space: pre-wrap; margin: .3rem 0 .6rem; max-height: 14rem; overflow-y: auto }
.pictures img { margin: .3rem .5rem .3rem 0; border-radius: 4px }
.gold { font-weight: 600 } .answers td { text-align: left; white-space: pre-wrap;
  overflow-wrap: anywhere }
.answers td:first-child, .answers td:last-child { white-space: nowrap }
.right { background: #e3f4e6 } .wrong { background: #fbe6e4 } .partly { background: #fdf3d7 }
.none { background: #eceef1; color: #5a6270 }
pre { background: #f5f6f8; padding: .8rem; overflow-x: auto; font-size: 12px }
"""


def page(report: Report) -> str:
    """Render a report with plots, tables, and the items on which the methods disagree."""
    title = escape(f"{report['benchmark']}: {report['metric']}")
    methods = report["methods"]
    metrics = [str(row[0]) for row in metrics_table(report)[1]]
    others = [metric for metric in metrics if metric != report["metric"]]
    body = [
        f"<h1>{title}</h1>",
        f"<p>{escape(summary_line(report))}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in notes(report)),
        bars(methods, [report["metric"]]),
        _table(headline_table(report)),
        "<h2>All metrics</h2>",
        bars(methods, others) if others else "",
        _table(metrics_table(report)),
        "<h2>Cost</h2>",
        _table(cost_table(report)),
        _examples(report),
        _reproduce(report["reproduce"]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    head, rows = table
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>\n"


def _examples(report: Report) -> str:
    disagreements = report["disagreements"]
    if not disagreements["shown"]:
        return ""
    shown, total = len(disagreements["shown"]), disagreements["total"]
    intro = f"All {total} rows." if shown == total else f"{shown} of {total} rows, evenly spaced."
    best = 0 if report["less_is_better"] else 1
    cards = "\n".join(_example(example, best) for example in disagreements["shown"])
    return f"<h2>Where the methods disagree</h2>\n<p>{intro}</p>\n{cards}"


def _example(example: Mapping[str, Any], best: int) -> str:
    gold = example["gold"]
    expected = ", ".join(map(str, gold)) if isinstance(gold, list) else gold
    said = (
        ""
        if gold is None
        else f'<p>Expected: <span class="gold">{escape(str(expected))}</span></p>'
    )
    shown = "".join(f'<img src="{escape(uri)}" alt="picture">' for uri in example["images"])
    pictures = f'<div class="pictures">{shown}</div>' if shown else ""
    answers = "".join(_answer(answer, best) for answer in example["answers"])
    return (
        f'<div class="example"><div class="id">{escape(example["id"])}</div>{pictures}'
        f'<div class="prompt">{escape(example["prompt"])}</div>{said}'
        f'<table class="answers">{answers}</table></div>'
    )


def _answer(answer: Mapping[str, Any], best: int) -> str:
    value = answer["value"]
    verdict = "none" if value is None else {best: "right", 1 - best: "wrong"}.get(value, "partly")
    failed = answer["error"] is not None
    text = f"error: {answer['error']}" if failed else answer["text"].strip()
    shown = "" if failed else "unparsed" if value is None else f"{value:.3g}"
    cells = (answer["label"], text, shown)
    return f'<tr class="{verdict}">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>\n'


def _reproduce(reproduce: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in reproduce.items() if name != "command"}
    return (
        f"<h2>Reproduce</h2>\n<pre>{escape(reproduce['command'])}</pre>\n"
        f"<pre>{escape(json.dumps(facts, indent=2, ensure_ascii=False))}</pre>"
    )
