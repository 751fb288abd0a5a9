"""Pairs as TRL's RewardTrainer takes them: checked as for every other training, and tokenised."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, IterableDataset

from .data import Report, prepare
from .data.formats import IMAGES
from .sets import in_memory

logger = logging.getLogger(__name__)

UNREAD = {
    **dict.fromkeys(IMAGES, "a reward model reads text alone"),
    "weight": "TRL's RewardTrainer weighs all pairs alike",
}


@dataclass
class RewardSets:
    """Prepares data sets and remembers what was found in them.

    Attributes:
        config: `max_length`, `on_problem` and `dataset_num_proc`.
        tokenizer: The model's.
        reports: What was found, by the data set's name.
    """

    config: Any
    tokenizer: Any
    reports: dict[str, Report] = field(default_factory=dict)

    def prepared(self, dataset: Any, name: str) -> Any:
        """Check and tokenise a data set, or several by name.

        Pairs that are longer than `max_length` can't be trained on: TRL would leave them out, and
        a cut answer has another end than the one that is judged.

        Returns:
            Rows with `chosen_ids`, `rejected_ids` and, where the data has it, `margin`.

        Raises:
            ValueError: Rows, or columns, that can't be trained on.
        """
        if dataset is None:
            return None
        if isinstance(dataset, Mapping):
            return {key: self.prepared(one, f"{name} {key}") for key, one in dataset.items()}
        _check_columns(dataset)
        told = f"the {name} data"
        with self.config.main_process_first(desc=name):
            rows, report = prepare(
                dataset,
                self.tokenizer,
                None,
                self.config.on_problem,
                name=told,
                num_proc=self.config.dataset_num_proc,
            )
            rows = self._short(rows.map(_joined, remove_columns=list(_TOKENS)), report, told)
        self.reports[name] = report
        return rows

    def lines(self, made: Mapping[str, str] | None = None) -> list[str]:
        """What was found, as lines for the model card; see `Sets`."""
        return [
            f"{name}: {report.rows - report.dropped} pairs, {report.dropped} others left out as "
            f"unusable or longer than max_length{in_memory(name, made)}"
            for name, report in self.reports.items()
        ]

    def _short(self, rows: Dataset, report: Report, name: str) -> Dataset:
        limit = self.config.max_length
        sides = zip(rows["chosen_ids"], rows["rejected_ids"], strict=True)
        lengths = [max(map(len, pair)) for pair in sides]
        fitting = [i for i, length in enumerate(lengths) if limit is None or length <= limit]
        if len(fitting) == len(rows):
            return rows
        count = len(rows) - len(fitting)
        told = f"{count} of the {report.rows} rows of {name} are longer than max_length {limit}"
        if self.config.on_problem == "error" or not fitting:
            first = next(i for i, length in enumerate(lengths) if length > limit)
            raise ValueError(
                f"{told}, the first is row {first} with {lengths[first]} tokens. Raise max_length, "
                "or leave them out with on_problem: drop."
            )
        logger.warning("%s, and were left out", told)
        report.dropped += count
        return rows.select(fitting)


_TOKENS = ("prompt_ids", "completion_ids")


def _check_columns(dataset: Any) -> None:
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            "reward models are trained on data that is read before, got a stream. Leave out "
            "dataset_streaming."
        )
    for column, reason in UNREAD.items():
        if column in dataset.column_names:
            raise ValueError(f"the data has a column {column}, but {reason}. Leave it out.")


def _joined(row: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = row["completion_ids"]
    return {
        "chosen_ids": [*row["prompt_ids"], *chosen],
        "rejected_ids": [*row["prompt_ids"], *rejected],
    }
