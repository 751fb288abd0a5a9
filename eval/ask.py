"""What a benchmark is: rows, an ask for each, a score for each answer, a summary of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .statistics import Estimate

Row = Mapping[str, Any]

LESS_IS_BETTER = frozenset(("chairs", "hal"))
"""The headline metrics of which less is better."""
READINGS = ("text", "first-token", "labels")


@dataclass(frozen=True)
class Ask:
    """One question as any model and any method can be asked it.

    Attributes:
        prompt: The user's turn, context included.
        contrast: The same without its context, whole; None where the benchmark has no such notion.
        images: What the prompt speaks about.
        choices: The closed set of answers, if there is one.
        reading: How an answer is got. "text" generates. "first-token" reads the token that would
            come first and takes the choice that it says, and generates where it says none: what
            greedy search would have begun with. "labels" lets no other token than those of the
            choices come first, whatever else the model would have said.
        draw: Asks of equal draw share the noise of methods that draw some; None has its own.
        max_new_tokens: The longest answer, in tokens.
    """

    prompt: str
    contrast: str | None = None
    images: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    reading: str = "text"
    draw: str | None = None
    max_new_tokens: int = 32


@dataclass(frozen=True)
class Scored:
    """One row's answer with its values: metric name -> number; an unparsed answer has None."""

    row: Row
    answer: str
    values: Mapping[str, float | None]

    def is_unparsed(self, metric: str) -> bool:
        """Whether it has no value of a metric, or says that it was wrong for want of a reading."""
        return self.values[metric] is None or bool(self.values.get("unparsed"))


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
