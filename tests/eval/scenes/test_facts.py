from __future__ import annotations

import random

import pytest

from contralign.eval.scenes.facts import (
    ABOUT,
    caption,
    colored,
    counted,
    existence,
    joined,
    lookup,
    pair,
    positioned,
    sentence,
)
from contralign.eval.scenes.world import Scene, Thing, World

# cup .    .
# .   cup  .
# .   ball .
SCENE = Scene("x", 0, (Thing("cup", "red", 0), Thing("cup", "red", 4), Thing("ball", "blue", 7)))


@pytest.mark.parametrize(
    ("question", "text", "label"),
    [
        (existence(SCENE, "cup"), "Is there a cup in the image?", "yes"),
        (existence(SCENE, "anchor"), "Is there an anchor in the image?", "no"),
        (counted(SCENE, "cup", 2), "Are there two cups in the image?", "yes"),
        (counted(SCENE, "cup", 1), "Is there only one cup in the image?", "no"),
        (counted(SCENE, "leaf", 3), "Are there three leaves in the image?", "no"),
        (colored(SCENE, "cup", "red"), "Is there a red cup in the image?", "yes"),
        (colored(SCENE, "ball", "red"), "Is there a red ball in the image?", "no"),
        (
            positioned(SCENE, "ball", "bottom"),
            "Is there a ball on the bottom side of the image?",
            "yes",
        ),
        (positioned(SCENE, "ball", "left"), "Is there a ball on the left side of the image?", "no"),
    ],
)
def test_questions(question: object, text: str, label: str) -> None:
    assert (question.text, question.label) == (text, label)  # type: ignore[attr-defined]


def test_colors_numbers_and_places_are_looked_up() -> None:
    asked = {lookup(SCENE, random.Random(seed)) for seed in range(60)}
    assert asked == {
        ("What color are the cups in the image?", "red."),
        ("What color is the ball in the image?", "blue."),
        ("How many cups are in the image?", "two."),
        ("Where is the ball in the image?", "bottom."),
    }


@pytest.mark.parametrize("about", ABOUT)
def test_a_pair_is_a_yes_and_a_no(about: str) -> None:
    found = [pair(s, about, random.Random(s.seed)) for s in World().scenes("in-bias", 100)]
    asked = [questions for questions in found if questions]
    assert len(asked) > 60
    assert all((yes.truth, no.truth) == (True, False) for yes, no in asked)
    assert {question.about for questions in asked for question in questions} == {about}


def test_counts_are_about_a_kind_that_there_are_several_of() -> None:
    asked = [pair(SCENE, "count", random.Random(seed)) for seed in range(20)]
    texts = [(yes.text, no.text) for yes, no in filter(None, asked)]
    assert {yes for yes, _ in texts} == {"Are there two cups in the image?"}
    assert {no for _, no in texts} == {
        "Is there only one cup in the image?",
        "Are there three cups in the image?",
    }


def test_what_stands_in_the_middle_is_on_no_side() -> None:
    middle = Scene("x", 0, (Thing("cup", "red", 4),))
    assert pair(middle, "position", random.Random(0)) is None


def test_a_caption_names_everything() -> None:
    said = {caption(SCENE, random.Random(seed)) for seed in range(20)}
    assert said == {
        "There is a blue ball and two red cups.",
        "There are two red cups and a blue ball.",
    }


def test_a_sentence_lists() -> None:
    groups = [("cup", "red", 1), ("leaf", "blue", 5), ("anchor", "black", 1)]
    expected = "There is a red cup, five blue leaves and a black anchor."
    assert sentence(groups) == expected
    assert joined(["a"]) == "a"
