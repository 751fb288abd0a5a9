"""What a reward is: a value that is called as TRL calls its reward functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..data.messages import Message, described

Text: TypeAlias = str | list[Message]
"""A prompt or a completion: text, or messages."""


class RewardError(ValueError):
    """A completion that has no reward.

    Args:
        index: Which of the completions that were asked for, from 0.
        found: What is wrong, and the way out.
    """

    def __init__(self, index: int, found: str) -> None:
        super().__init__(f"completion {index}: {found}")
        self.index = index
        self.found = found


@runtime_checkable
class Reward(Protocol):
    """A frozen dataclass that says how good completions are; more is better."""

    def fingerprint(self) -> Mapping[str, Any]:
        """JSON values that change whenever a reward could; of a model it reads the weights."""
        ...

    def check(self, columns: Collection[str]) -> None:
        """Refuse what can't be asked of data with these columns, before anything expensive.

        Raises:
            ValueError: With the way out.
        """
        ...

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[float]:
        """Judge completions, one number each.

        Args:
            prompts: One for each completion.
            completions: Texts, or messages.
            **columns: Further columns of the data, one value for each completion.

        Raises:
            RewardError: One of them has no reward.
        """
        ...


def finite(values: Sequence[Any], count: int, name: str) -> list[float]:
    """Take what somebody says are rewards, one finite number for each completion.

    Args:
        values: The numbers.
        count: How many completions there are.
        name: Whose they are, for complaints.

    Raises:
        RewardError: A value is no finite number; an answer of None too, which TRL would take for
            "not applicable".
        ValueError: There are more or fewer than completions.
    """
    values = list(values)
    if len(values) != count:
        raise ValueError(
            f"{name} gives one number for each completion, got {len(values)} for {count}."
        )
    for index, value in enumerate(values):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise RewardError(
                index, f"{name} must be a finite number, got {described(value)}. Correct it."
            )
    return [float(value) for value in values]
