"""What a benchmark is: rows, an ask for each, a score for each answer, a summary of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .statistics import Estimate

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """One question as any model and any method can be asked it.

    Attributes:
        prompt: The user's turn, context included.
        contrast: The same without its context, whole; None where the benchmark has no such notion.
        images: What the prompt speaks about.
        choices: The closed set of answers, if there is one.
        max_new_tokens: The longest answer, in tokens.
    """

    prompt: str
    contrast: str | None = None
    images: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    max_new_tokens: int = 32


@dataclass(frozen=True)
class Scored:
    """One row's answer with its values: metric name -> number; an unparsed answer has None."""

    row: Row
    answer: str
    values: Mapping[str, float | None]


@runtime_checkable
class Benchmark(Protocol):
    """A frozen dataclass of options whose verbs are pure; rows carry a unique string `id`."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Changes whenever data, prompts or scoring change: part of every answer's key."""
        ...

    @property
    def metric(self) -> str:
        """The metric that heads the report and that the paired tests compare."""
        ...

    def load(self) -> list[Row]: ...

    def ask(self, row: Row) -> Ask: ...

    def score(self, row: Row, answer: str) -> Mapping[str, float | None]: ...

    def summarise(self, scored: Sequence[Scored]) -> Mapping[str, Estimate]:
        """Estimates with intervals, headline first; keys such as `em`, `em/conflict`."""
        ...
