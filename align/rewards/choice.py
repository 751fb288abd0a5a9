"""The best and the worst of several answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BestAndWorst:
    """Indices of two answers.

    Attributes:
        best: Of the highest score; the first of several.
        worst: Of the lowest; the first of several.
    """

    best: int
    worst: int


@dataclass(frozen=True)
class Skipped:
    """Why there is no pair: fewer than two answers that say something, equal ones, or a tie."""

    reason: str


def best_and_worst(answers: Sequence[str], scores: Sequence[float]) -> BestAndWorst | Skipped:
    """Choose a pair among the answers to one prompt.

    Answers that say nothing never are in it, and answers of equal score never are a pair.

    Args:
        answers: Their texts.
        scores: One each, higher is better.
    """
    said = [index for index, answer in enumerate(answers) if answer.strip()]
    if len(said) < 2:
        return Skipped("empty")
    if len({answers[index] for index in said}) == 1:
        return Skipped("equal")
    best = max(said, key=lambda index: scores[index])
    worst = min(said, key=lambda index: scores[index])
    return Skipped("tie") if scores[best] == scores[worst] else BestAndWorst(best, worst)
