"""Batches of preference pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import ProcessorMixin

from ..batch import Batch
from .checks import Examined, examine
from .encode import Encoded
from .formats import NUMBERS, excerpt


@dataclass(frozen=True)
class PairCollator:
    """Joins rows to a batch; rows with images are encoded here, each by one call of the processor.

    Attributes:
        processor: Of a vision model; None for rows that are tokenised already.
        max_length: Tokens of prompt and completion of rows that are encoded here; None is no limit.
    """

    processor: ProcessorMixin | None = None
    max_length: int | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Join rows.

        Returns:
            size: The prompts' lengths, by which libraries count rows; batch: a `Batch`, with the
            columns weight and margin where the rows have them.

        Raises:
            ValueError: A row can't be trained on, or only some have a weight or a margin.
        """
        examined = [self._examined(row) for row in rows]
        encoded = [row.encoded for row in examined if row.encoded is not None]
        images = [row.images for row in encoded]
        batch = Batch(
            prompts=[row.prompt for row in encoded],
            completions=[row.completions for row in encoded],
            images=images if any(images) else (),
            columns=_columns([row.numbers for row in examined]),
        )
        # accelerate counts by the first.
        return {"size": torch.tensor([len(ids) for ids in batch.prompts]), "batch": batch}

    def _examined(self, row: Mapping[str, Any]) -> Examined:
        if "prompt_ids" in row:
            numbers = {name: row[name] for name in NUMBERS if name in row}
            ids = Encoded(row["prompt_ids"], row["completion_ids"], row.get("images", {}))
            return Examined([], ids, numbers)
        if self.processor is None:
            raise ValueError(
                f"a batch takes rows with prompt_ids, got {', '.join(row)}. Pass the data through "
                "prepare(), and the processor to the collator if there are images."
            )
        examined = examine(row, self.processor, self.max_length)
        if not examined.usable:
            ((problem, found),) = examined.problems
            raise ValueError(
                f"the row that begins with {excerpt(row)!r} can't be trained on: {problem}, "
                f"{found}. Pass the data through prepare()."
            )
        return examined


def _columns(numbers: Sequence[Mapping[str, float]]) -> dict[str, torch.Tensor]:
    found = {name: sum(name in row for row in numbers) for name in NUMBERS}
    for name, count in found.items():
        if 0 < count < len(numbers):
            raise ValueError(
                f"all rows of a batch have a {name}, or none: {count} of {len(numbers)} have one. "
                "Fill the column."
            )
    return {
        name: torch.tensor([float(row[name]) for row in numbers])
        for name, count in found.items()
        if count
    }
