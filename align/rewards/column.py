"""A reward that somebody has computed before: a column of the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .reward import Text, finite


@dataclass(frozen=True)
class ColumnReward:
    """Rewards that stand in the data.

    Attributes:
        name: The column: `score` of a completion, `score_chosen` and `score_rejected` of a pair and
            the list `scores` of several completions, if the name is score. As a function it reads
            the column of that very name.
    """

    name: str

    def fingerprint(self) -> Mapping[str, Any]:
        return {"column": self.name}

    def check(self, columns: Collection[str]) -> None:
        """Refuse data that doesn't have the column in any of its forms."""
        forms = (self.name, f"{self.name}s", f"{self.name}_chosen")
        if not any(form in columns for form in forms):
            raise ValueError(
                f"reward_column is a column of the data ({', '.join(forms)} and _rejected), got "
                f"{self.name!r}, but the columns are {', '.join(columns)}. Name one of them."
            )

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[float]:
        if self.name not in columns:
            self.check(columns)
        return finite(columns[self.name], len(completions), f"the column {self.name}")
