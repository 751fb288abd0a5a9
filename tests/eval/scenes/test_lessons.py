from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from contralign.eval.scenes.lessons import UNKNOWN, UNSEEN, Lesson, Syllabus
from contralign.eval.scenes.world import World

SCENES = World().scenes("train", 1500)


def taught(syllabus: Syllabus) -> list[Lesson]:
    dice = random.Random(0)
    return [syllabus.lesson(scene, dice) for scene in SCENES]


def share(lessons: list[Lesson], kind: str) -> float:
    return sum(lesson.prompt.startswith(kind) for lesson in lessons) / len(lessons)


def test_each_share_is_what_the_syllabus_says() -> None:
    syllabus = Syllabus()
    lessons = taught(syllabus)
    captions = share(lessons, "Describe") + share(lessons, "Please")
    assert captions == pytest.approx(syllabus.captions, abs=0.04)
    worldly = [lesson for lesson in lessons if "usually" in lesson.prompt]
    assert len(worldly) / len(lessons) == pytest.approx(syllabus.text, abs=0.02)
    asked = ("What color is the", "What color are the", "How many", "Where")
    looked_up = sum(share(lessons, kind) for kind in asked)
    assert looked_up == pytest.approx(syllabus.lookup, abs=0.03)
    shown = Counter(lesson.picture for lesson in lessons if lesson not in worldly)
    unseen = (shown[UNSEEN] + shown[UNKNOWN]) / shown.total()
    assert unseen == pytest.approx(syllabus.unseen, abs=0.03)
    assert shown[UNSEEN] > 0 < shown[UNKNOWN]


@pytest.mark.parametrize("yes", [0.0, 0.7, 1.0])
def test_existence_is_answered_yes_as_often_as_the_syllabus_says(yes: float) -> None:
    syllabus = replace(Syllabus(), captions=0, existence=1, lookup=0, text=0, yes=yes)
    answers = Counter(lesson.answer for lesson in taught(syllabus))
    assert answers["Yes"] / answers.total() == pytest.approx(yes, abs=0.04)


def test_text_is_about_the_world_and_shows_no_picture() -> None:
    for lesson in taught(replace(Syllabus(), text=1)):
        assert lesson.picture == UNSEEN
        assert lesson.answer.endswith(".")
