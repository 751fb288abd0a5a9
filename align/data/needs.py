"""What a training method reads of a row beside its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Needs:
    """What a row must have, and which numbers are read.

    Attributes:
        completions: pair: chosen and rejected; group: those, or any number of them in a column
            `completions`; none: they are sampled.
        scores: Whether each completion needs a number: score_chosen and score_rejected of a pair,
            a list `scores` of a group.
        ordered: Whether a group is a ranking: best first or by its `scores`, without ties.
        numbers: Columns with one number a row.
        compared: Whether completions are held against each other, so that there are several.
        room: Tokens that must fit behind a prompt: those of the longest sample, or one.
    """

    completions: Literal["pair", "group", "none"] = "pair"
    scores: bool = False
    ordered: bool = False
    numbers: tuple[str, ...] = ("weight", "margin")
    compared: bool = True
    room: int = 1


PAIRS = Needs()
RANKINGS = Needs("group", ordered=True, numbers=("weight", "margin", "label"))
SCORED = Needs("group", scores=True, numbers=("weight", "margin", "baseline"))
PROMPTS = Needs("none", numbers=("weight",))
JUDGED = Needs("group", numbers=(), compared=False)
NEEDS: Mapping[str, Needs] = {"dpo": PAIRS, "cpl": RANKINGS, "copg": SCORED, "hypo": PAIRS}


class Sizes:
    """Notices groups of another size than the first: a batch has as many of each prompt."""

    def __init__(self) -> None:
        self._first = 0

    def __call__(self, size: int) -> list[tuple[str, str]]:
        """Compare a usable row's number of completions.

        Returns:
            The problem and what was found, or nothing.
        """
        self._first = self._first or size
        if size == self._first:
            return []
        return [("unequal-groups", f"it has {size} completions, the first row {self._first}")]
