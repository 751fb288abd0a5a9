"""The report of a run: `report.json` holds everything, `report.md` and `report.html` show it.

Every method stands beside greedy: difference on the same items, its interval, p value, and p value
adjusted by Holm for the number of methods. Rows with an error count in no mean; how many there are
is said.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accelerate import PartialState

from contralign.files import replace_text

from .ask import LESS_IS_BETTER
from .baselines import missing_baselines
from .machine import machine, versions
from .markdown import markdown
from .page import page
from .plan import Item
from .runner import Outcome, RunResult
from .statistics import Paired, holm, paired
from .thumbnails import thumbnails

SHOWN = 30
"""The most examples of disagreement in a report."""


def write_report(
    result: RunResult, output: str | Path, *, command: str | None = None
) -> dict[str, Any]:
    """Write `report.json`, `report.md` and `report.html` into a folder, each in one step.

    Under several processes the main one writes.

    Args:
        result: The finished run.
        output: A folder, usually the run's own.
        command: What reproduces the run; None takes this process's command line.

    Returns:
        What `report.json` holds.
    """
    if not isinstance(result, RunResult) or not isinstance(output, str | Path):
        raise ValueError(
            f"a report is of what run returned, into a folder, got a {type(result).__name__} and "
            f"{output!r:.80}."
        )
    report = build_report(result, command or shlex.join(sys.orig_argv))
    if PartialState().is_main_process:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        replace_text(folder / "report.json", text + "\n")
        replace_text(folder / "report.md", markdown(report))
        replace_text(folder / "report.html", page(report))
    return report


def build_report(result: RunResult, command: str) -> dict[str, Any]:
    """Gather a run's numbers, and what is needed to get them again, as JSON values.

    NaN, of an interval or a mean that the values can't give, becomes None.
    """
    against = _against_greedy(result)
    ran = [outcome.decoding for outcome in result.outcomes]
    report = {
        "benchmark": result.benchmark.name,
        "metric": result.benchmark.metric,
        "less_is_better": result.benchmark.metric in LESS_IS_BETTER,
        "rows": len(result.items),
        "methods": [
            _method(outcome) | {"against_greedy": against.get(outcome.decoding.label)}
            for outcome in result.outcomes
        ],
        "left_out": list(result.left_out),
        "missing_baselines": [one.label for one in missing_baselines(ran)],
        "disagreements": _disagreements(result),
        "reproduce": {
            "command": command,
            "settings": result.settings,
            "versions": versions(),
            "machine": machine(),
            "processes": result.processes,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    return dict(_without_nan(report))


def _method(outcome: Outcome) -> dict[str, Any]:
    return {
        "label": outcome.decoding.label,
        "decoding": str(outcome.decoding),
        "estimates": {name: asdict(one) for name, one in outcome.estimates.items()},
        "errors": outcome.errors,
        "unparsed": outcome.unparsed,
        "off_label": outcome.off_label,
        "asked": outcome.asked,
        "resumed": outcome.resumed,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 3),
    }


def _against_greedy(result: RunResult) -> dict[str, dict[str, Any]]:
    """Label -> the headline metric against greedy's on the items that both have it for, if any."""
    values = {one.decoding.label: _values(one, result.benchmark.metric) for one in result.outcomes}
    greedy = values.pop("greedy", None)
    if greedy is None:
        return {}
    tests = {}
    for label, mine in values.items():
        both = [row for row in mine if row in greedy]
        if not both:
            continue
        test = paired([mine[row] for row in both], [greedy[row] for row in both])
        tests[label] = _turned(test) if result.benchmark.metric in LESS_IS_BETTER else test
    adjusted = holm({label: test.p for label, test in tests.items()})
    return {label: {**asdict(test), "p_holm": adjusted[label]} for label, test in tests.items()}


def _turned(test: Paired) -> Paired:
    """Call it a win to have less."""
    return replace(test, wins=test.losses, losses=test.wins)


def _values(outcome: Outcome, metric: str) -> dict[str, float]:
    """Row id -> value, for the rows that have one."""
    return {
        one.row["id"]: value for one in outcome.scored if (value := one.values[metric]) is not None
    }


def _disagreements(result: RunResult) -> dict[str, Any]:
    """The items whose headline value depends on the method; at most 30, evenly spaced."""
    values = [_values(outcome, result.benchmark.metric) for outcome in result.outcomes]
    split = [item for item in result.items if len({each.get(item.id) for each in values}) > 1]
    shown = split[:: math.ceil(len(split) / SHOWN) or 1]
    return {
        "total": len(split),
        "shown": [_example(item, result.outcomes, values) for item in shown],
    }


def _example(
    item: Item, outcomes: Sequence[Outcome], values: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    return {
        "id": item.id,
        "prompt": item.ask.prompt,
        "images": thumbnails(item.ask.images),
        "gold": item.row.get("gold"),
        "answers": [
            {
                "label": outcome.decoding.label,
                "text": outcome.answers[item.id].text,
                "error": outcome.answers[item.id].error,
                "value": mine.get(item.id),
            }
            for outcome, mine in zip(outcomes, values, strict=True)
        ],
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
