"""Measures of yes/no answers with intervals: accuracy, precision, recall, F1, yes ratio.

"Yes" is positive. Where a measure has no value, as the precision of someone who never says yes, it
is NaN, never an error and never 0. The mean over groups (POPE's splits) is the unweighted one that
papers report. Intervals: Wilson's for shares of one group's rows; for F1 and means over groups a
bootstrap that draws images whole, since POPE asks about each six times a split, and asks the
questions whose answer is yes in every split again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from .ask import Row, Scored
from .statistics import Estimate, Totals, mean_estimate, ratio, total_estimates
from .yes_no import PARSERS, Parser, Said, parse

CELLS = ("yes/yes", "yes/no", "yes/None", "no/yes", "no/no", "no/None")
"""Label and what was said; the order of a row of counts."""
MEASURES = ("accuracy", "f1", "precision", "recall", "yes_ratio", "unparsed")

Counts = Float[np.ndarray, "*draws cells"]
Values = Float[np.ndarray, "*draws"]


def score_yes_no(label: str, answer: str, parser: str = "ours") -> dict[str, float | None]:
    """Values of one row: `accuracy`, `yes_ratio` and `unparsed`, None where the row has none.

    Args:
        label: "yes" or "no".
        answer: What the model said.
        parser: A name in `PARSERS`.

    Raises:
        ValueError: No such parser.
    """
    said = parse(answer, parser, label)
    counted = said is not None or PARSERS[parser].in_accuracy
    return {
        "accuracy": float(said == label) if counted else None,
        "yes_ratio": float(said == "yes") if counted else None,
        "unparsed": float(said is None),
    }


def confusion(answers: Sequence[tuple[str, Said]]) -> Float[np.ndarray, " cells"]:
    """Count the pairs of label and what was said, in the order of `CELLS`."""
    pairs = [f"{label}/{said}" for label, said in answers]
    return np.array([float(pairs.count(cell)) for cell in CELLS])


def measures(counts: Counts, parser: Parser = PARSERS["ours"]) -> dict[str, Values]:
    """Turn counts into measures, NaN where one has no value.

    Args:
        counts: `[..., 6]` in the order of `CELLS`; see `confusion`.
        parser: Says where unparsed answers count.

    Returns:
        Each of `MEASURES`. F1 is `2 TP / (2 TP + FP + misses)`: the harmonic mean of precision and
        recall where both have a value, 0 where nothing positive was found.
    """
    tp, fn, lost, fp, tn, unread = np.moveaxis(counts, -1, 0)
    everything = counts.sum(axis=-1)
    counted = everything if parser.in_accuracy else tp + fn + fp + tn
    missed = fn + lost if parser.in_recall else fn
    return {
        "accuracy": ratio(tp + tn, counted),
        "f1": ratio(2 * tp, 2 * tp + fp + missed),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + missed),
        "yes_ratio": ratio(tp + fp, counted),
        "unparsed": ratio(lost + unread, everything),
    }


def summarise_yes_no(
    scored: Sequence[Scored],
    parser: str = "ours",
    *,
    group: str | None = "split",
    unit: Callable[[Row], Any] = lambda row: row.get("image", row["id"]),
) -> dict[str, Estimate]:
    """Estimate each of `MEASURES` for every group, and the mean over groups under its bare name.

    Args:
        scored: Rows with a `label`, and their answers.
        parser: A name in `PARSERS`.
        group: The field of a row to group by; a single group is not listed again.
        unit: What rows are drawn with: rows of one unit are not independent.

    Raises:
        ValueError: No such parser.
    """
    said = [parse(one.answer, parser, one.row["label"]) for one in scored]
    labels = [one.row["label"] for one in scored]
    of = [one.row[group] if group else None for one in scored]
    groups = list(dict.fromkeys(of))
    cells = [f"{label}/{word}" for label, word in zip(labels, said, strict=True)]
    counts = _by_unit([unit(one.row) for one in scored], of, groups, cells)
    whole = total_estimates(counts, _means(len(groups), len(scored), PARSERS[parser]))
    if len(groups) == 1:
        return _shares(cells, whole, PARSERS[parser])
    for index, name in enumerate(groups):
        inside = [cell for cell, where in zip(cells, of, strict=True) if where == name]
        own = counts[:, 6 * index : 6 * index + 6]
        estimates = total_estimates(own, _means(1, len(inside), PARSERS[parser]))
        found = _shares(inside, estimates, PARSERS[parser])
        whole |= {f"{measure}/{name}": found[measure] for measure in MEASURES}
    return whole


def _by_unit(
    units: Sequence[Any], of: Sequence[Any], groups: Sequence[Any], cells: Sequence[str]
) -> Float[np.ndarray, "units cells"]:
    """Counts of each unit, the groups' six cells one after another."""
    index = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    counts = np.zeros((len(index), 6 * max(1, len(groups))))
    for unit, where, cell in zip(units, of, cells, strict=True):
        counts[index[unit], 6 * groups.index(where) + CELLS.index(cell)] += 1
    return counts


def _means(
    groups: int, n: int, parser: Parser
) -> Mapping[str, tuple[Callable[[Totals], Float[np.ndarray, " draws"]], int]]:
    return {name: (partial(_mean, name, groups, parser), n) for name in MEASURES}


def _mean(name: str, groups: int, parser: Parser, totals: Totals) -> Float[np.ndarray, " draws"]:
    counts = totals.reshape(len(totals), max(1, groups), 6)
    return measures(counts, parser)[name].mean(axis=-1)


def _shares(
    cells: Sequence[str], estimates: Mapping[str, Estimate], parser: Parser
) -> dict[str, Estimate]:
    """Replace the intervals of shares of rows by Wilson's; F1, which is none, keeps its own."""
    read = [cell for cell in cells if not cell.endswith("None")]
    counted = cells if parser.in_accuracy else read
    positive = [cell for cell in cells if cell.startswith("yes/")]
    of = {
        "accuracy": [cell in ("yes/yes", "no/no") for cell in counted],
        "precision": [cell == "yes/yes" for cell in cells if cell.endswith("/yes")],
        "recall": [
            cell == "yes/yes" for cell in positive if parser.in_recall or cell != "yes/None"
        ],
        "yes_ratio": [cell.endswith("/yes") for cell in counted],
        "unparsed": [cell.endswith("None") for cell in cells],
    }
    exact = {name: mean_estimate([float(one) for one in found]) for name, found in of.items()}
    return {name: exact.get(name, estimates[name]) for name in MEASURES}
