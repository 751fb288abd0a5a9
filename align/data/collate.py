"""Batches of prompts with their completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..batch import Batch
from .checks import Examined, examine
from .encode import Encoded
from .formats import NUMBERS, excerpt
from .needs import PAIRS, Needs
from .tokens import Processor


@dataclass(frozen=True)
class PairCollator:
    """Joins rows to a batch; rows with images are encoded here, each by one call of the processor.

    Attributes:
        processor: Of a vision model, or of prompts whose completions are sampled; None for rows
            that are tokenised already.
        max_length: Tokens of prompt and completion of rows that are encoded here; None is no limit.
        needs: What is read of them.
    """

    processor: Processor | None = None
    max_length: int | None = None
    needs: Needs = PAIRS

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Join rows.

        Returns:
            size: The prompts' lengths, by which libraries count rows; batch: a `Batch`, with a
            column for each number that the rows have; and, where completions are sampled, rows.

        Raises:
            ValueError: A row can't be trained on, or only some have a number.
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
        found = {"size": torch.tensor([len(ids) for ids in batch.prompts]), "batch": batch}
        return found if self.needs.completions != "none" else {**found, "rows": list(rows)}

    def _examined(self, row: Mapping[str, Any]) -> Examined:
        if "prompt_ids" in row:
            numbers = {name: row[name] for name in (*NUMBERS, "scores") if name in row}
            ids = Encoded(row["prompt_ids"], row["completion_ids"], row.get("images", {}))
            return Examined([], ids, numbers)
        if self.processor is None:
            raise ValueError(
                f"a batch takes rows with prompt_ids, got {', '.join(row)}. Pass the data through "
                "prepare(), and the processor to the collator if there are images."
            )
        examined = examine(row, self.processor, self.max_length, self.needs)
        if not examined.usable:
            ((problem, found),) = examined.problems
            raise ValueError(
                f"the row that begins with {excerpt(row)!r} can't be trained on: {problem}, "
                f"{found}. Pass the data through prepare()."
            )
        return examined


def _columns(numbers: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    names = dict.fromkeys(name for row in numbers for name in row)
    found = {name: sum(name in row for row in numbers) for name in names}
    for name, count in found.items():
        if 0 < count < len(numbers):
            raise ValueError(
                f"all rows of a batch have a {name}, or none: {count} of {len(numbers)} have one. "
                "Fill the column."
            )
    return {name: torch.tensor([row[name] for row in numbers]).float() for name in found}
