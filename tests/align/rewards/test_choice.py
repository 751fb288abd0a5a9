"""The best and the worst answer, worked by hand."""

from __future__ import annotations

import pytest

from contralign.align.rewards import BestAndWorst, Skipped, best_and_worst


@pytest.mark.parametrize(
    ("answers", "scores", "found"),
    [
        (["a", "b", "c"], [1.0, 3.0, 2.0], BestAndWorst(1, 0)),
        (["a", "b", "c", "d"], [2.0, 2.0, 1.0, 1.0], BestAndWorst(0, 2)),
        (["a", " ", "c"], [1.0, 9.0, 2.0], BestAndWorst(2, 0)),
        (["a", "a", "b"], [1.0, 1.0, 1.0], Skipped("tie")),
        (["a", "a"], [1.0, 1.0], Skipped("equal")),
        (["a", ""], [1.0, 0.0], Skipped("empty")),
        (["", "\n"], [1.0, 0.0], Skipped("empty")),
    ],
)
def test_a_choice(answers: list[str], scores: list[float], found: BestAndWorst | Skipped) -> None:
    assert best_and_worst(answers, scores) == found
