"""Means with intervals of every metric, over all rows and over groups of rows."""

from __future__ import annotations

from collections.abc import Sequence

from .ask import Scored
from .statistics import Estimate, mean_estimate


def summarize(
    scored: Sequence[Scored], metrics: Sequence[str], group: str | None = None
) -> dict[str, Estimate]:
    """Estimate each metric under its name, and each group's under `metric/group`.

    Rows that lack a metric, or have None for it, do not count towards it: see `Estimate.n`.

    Args:
        scored: The answers of one method.
        metrics: In the order of the report.
        group: The field of a row to group by; one group alone is not listed again.
    """
    summary = {}
    for metric in metrics:
        measured = [one for one in scored if one.values.get(metric) is not None]
        summary[metric] = _mean(measured, metric)
        groups = {one.row[group] for one in measured} if group else set()
        if len(groups) > 1:
            for name in sorted(groups):
                members = [one for one in measured if group and one.row[group] == name]
                summary[f"{metric}/{name}"] = _mean(members, metric)
    return summary


def _mean(scored: Sequence[Scored], metric: str) -> Estimate:
    values = (one.values[metric] for one in scored)
    return mean_estimate([value for value in values if value is not None])
