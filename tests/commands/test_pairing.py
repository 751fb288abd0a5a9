"""Answers -> pairs, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from contralign.align.rewards import Question
from contralign.commands.pairing import Pairs, Talk, candidates, chosen_of, held_against
from contralign.eval import Answer

ROW = {"prompt": "old", "chosen": "old", "score": 1, "objects": ["cup"]}
TEXT = Talk(lambda prompt, images: prompt, chat=False)
CHAT = Talk(lambda prompt, images: [{"role": "user", "content": prompt}], chat=True)


def said(*texts: str | None) -> list[Answer]:
    """Answers; None is an error."""
    return [Answer("", 0, "broken") if text is None else Answer(text, 1) for text in texts]


def turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_the_best_and_the_worst_are_a_pair() -> None:
    asked = candidates(ROW, "?", said("a", "", "b", None, "c"), TEXT)
    assert asked == Question("?", ["a", "b", "c"], {"objects": ["cup"]}, "group")
    assert chosen_of(asked, [2.0, 3.0, 1.0]) == {
        "objects": ["cup"],
        "prompt": "?",
        "chosen": "b",
        "rejected": "c",
        "score_chosen": 3.0,
        "score_rejected": 1.0,
    }
    assert chosen_of(asked, [2.0, 2.0, 2.0]) == "tie"


def test_messages() -> None:
    asked = candidates(ROW, [{"role": "user", "content": "?"}], said("a", "b"), CHAT)
    assert isinstance(asked, Question)
    found: Any = chosen_of(asked, [1.0, 0.0])
    assert (found["chosen"], found["rejected"]) == (turn("a"), turn("b"))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((None, None), "failed"),
        ((None, "a"), "empty"),
        (("a", " "), "empty"),
        (("a", "a", ""), "equal"),
    ],
)
def test_why_there_is_none(answers: tuple[str | None, ...], reason: str) -> None:
    assert candidates(ROW, "?", said(*answers), TEXT) == reason


@pytest.mark.parametrize(
    ("answers", "reason"),
    [((None, "a"), "failed"), (("a", ""), "empty"), (("a", "a"), "equal")],
)
def test_why_two_methods_make_none(answers: tuple[str | None, ...], reason: str) -> None:
    assert held_against(ROW, "?", *said(*answers), TEXT) == reason


def test_one_method_against_another() -> None:
    found = held_against(ROW, "?", *said("a", "b"), TEXT)
    assert found == {"objects": ["cup"], "prompt": "?", "chosen": "a", "rejected": "b"}


def test_what_is_said_of_them() -> None:
    pairs = Pairs([{}, {}])
    pairs.skipped.update(["tie", "empty", "tie"])
    assert str(pairs).splitlines() == [
        "2 pairs",
        "1 prompts without one: an empty answer, or fewer than two that say something",
        "2 prompts without one: answers of one score",
    ]
