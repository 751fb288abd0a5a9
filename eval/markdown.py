"""A report as Markdown whose tables also read well as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def markdown(report: Report) -> str:
    """Render a report, headline first."""
    reproduce = report["reproduce"]
    facts = {key: reproduce[key] for key in ("settings", "versions", "machine", "processes")}
    sections = [
        f"# {report['benchmark']}: {report['metric']}",
        summary_line(report),
        aligned(headline_table(report)),
        *notes(report),
        "## All metrics",
        aligned(metrics_table(report)),
        "## Cost",
        aligned(cost_table(report)),
        "## Reproduce",
        f"```\n{reproduce['command']}\n```",
        f"```json\n{json.dumps(facts, indent=2, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def summary_line(report: Report) -> str:
    """Say what was measured, on what."""
    settings, disagreements = report["reproduce"]["settings"], report["disagreements"]
    return (
        f"{report['rows']} rows, model {settings['model'].get('name', 'unnamed')} "
        f"({settings['model'].get('dtype', 'unknown dtype')}), seed {settings['seed']}. Brackets "
        "are 95 % intervals; differences are against greedy on the same rows, p values "
        "two-sided, adjusted for the number of methods by Holm's procedure. The methods "
        f"disagree on {disagreements['total']} rows."
    )


def notes(report: Report) -> list[str]:
    """Say what is missing: baselines, and rows without an answer or a value."""
    said = []
    if report["less_is_better"]:
        said.append(f"Less is better: a row is won where its {report['metric']} is below greedy's.")
    if report["left_out"]:
        files = ", ".join(f"answers/{name}.jsonl" for name in report["left_out"])
        said.append(
            f"Not in this report, though in this folder, are the answers in {files}. Name their "
            "methods too to have them here."
        )
    if report["missing_baselines"]:
        said.append(f"Baselines not run: {', '.join(report['missing_baselines'])}.")
    for method in report["methods"]:
        if method["errors"]:
            row, error = next(iter(method["errors"].items()))
            said.append(
                f"{method['label']}: {len(method['errors'])} rows have an error instead of an "
                f"answer and count in no mean; the first is {row}: {error}"
            )
        if method["unparsed"]:
            said.append(
                f"{method['label']}: {method['unparsed']} answers could not be read as one: they "
                f"have no value of {report['metric']}, or count as wrong where the parser says so."
            )
        if method["off_label"]:
            said.append(
                f"{method['label']}: {method['off_label']} of {method['asked']} asks would have "
                "begun with none of their choices; the benchmark's reading says whether they were "
                "generated or held to a choice."
            )
    return said


def headline_table(report: Report) -> Table:
    """One row a method: the headline metric and the comparison with greedy."""
    metric = report["metric"]
    head = ["method", metric, "n", "against greedy", "won", "lost", "p", "p (Holm)"]
    rows = []
    for method in report["methods"]:
        estimate, against = method["estimates"][metric], method["against_greedy"]
        row = [method["label"], interval(estimate), str(estimate["n"])]
        rows.append(row + (_comparison(against) if against else [""] * 5))
    return head, rows


def metrics_table(report: Report) -> Table:
    """One row a metric, one column a method."""
    methods = report["methods"]
    names = list(dict.fromkeys(name for method in methods for name in method["estimates"]))
    head = ["metric", *(method["label"] for method in methods)]
    rows = [
        [name, *(interval(method["estimates"].get(name)) for method in methods)] for name in names
    ]
    return head, rows


def cost_table(report: Report) -> Table:
    """One row a method: what it took and what is missing."""
    head = ["method", "asked", "resumed", "errors", "unparsed", "tokens", "seconds", "tokens/s"]
    rows = []
    for method in report["methods"]:
        counts = [method["asked"], method["resumed"], len(method["errors"]), method["unparsed"]]
        tokens, seconds = method["tokens"], method["seconds"]
        speed = f"{tokens / seconds:.1f}" if seconds else ""
        rows.append([method["label"], *map(str, counts), str(tokens), f"{seconds:.1f}", speed])
    return head, rows


def interval(estimate: Mapping[str, Any] | None, *, sign: bool = False) -> str:
    """Write a value with its interval: `0.800 [0.490, 0.943]`."""
    if estimate is None:
        return ""
    value, low, high = (
        estimate.get("value", estimate.get("difference")),
        estimate["low"],
        estimate["high"],
    )
    form = "+.3f" if sign else ".3f"
    if value is None:
        return "none"
    return f"{value:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def aligned(table: Table) -> str:
    """Write a Markdown table with columns of equal width, the first to the left."""
    head, rows = table
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_padded(row, widths) for row in cells]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def _comparison(against: Mapping[str, Any]) -> list[str]:
    return [
        interval(against, sign=True),
        str(against["wins"]),
        str(against["losses"]),
        _p(against["p"]),
        _p(against["p_holm"]),
    ]


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
