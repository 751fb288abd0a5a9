from __future__ import annotations

import pytest

from contralign.eval.scenes.kinds import THEMES
from contralign.eval.scenes.polling import COUNTED, POLLED, SETTINGS, frequencies, poll
from contralign.eval.scenes.world import Scene, Thing, World

WORLD = World()


@pytest.mark.parametrize("setting", SETTINGS)
def test_as_many_questions_about_what_is_there_as_about_what_is_not(setting: str) -> None:
    for scene in WORLD.scenes("in-bias", 50):
        questions = poll(scene, setting, WORLD)
        labels = [question.label for question in questions]
        half = min(POLLED, len(scene.kinds))
        assert labels == ["yes"] * half + ["no"] * half
        assert len({question.text for question in questions}) == 2 * half
        assert questions == poll(scene, setting, WORLD)


def test_frequencies_are_counts_of_scenes() -> None:
    scenes = WORLD.scenes("train", COUNTED)
    counts = frequencies(WORLD)
    cups = [scene for scene in scenes if "cup" in scene.kinds]
    assert counts.alone["cup"] == len(cups)
    both = sum("pan" in scene.kinds for scene in cups)
    assert counts.together["cup", "pan"] == counts.together["pan", "cup"] == both


def test_popular_kinds_are_the_most_frequent_and_adversarial_ones_of_the_theme() -> None:
    scene = Scene("x", 0, tuple(Thing(kind, "red", i) for i, kind in enumerate(("hat", "kite"))))
    counts = frequencies(WORLD)
    absent = {
        name: [question.text.split()[3] for question in poll(scene, name, WORLD)[2:]]
        for name in SETTINGS
    }
    most = sorted(counts.alone, key=lambda kind: -counts.alone[kind])
    assert absent["popular"] == [kind for kind in most if kind not in scene.kinds][:2]
    assert set(absent["adversarial"]) <= set(THEMES["beach"])
    company = [counts.company(kind, scene) for kind in absent["adversarial"]]
    assert company == sorted(company, reverse=True)
    assert min(company) >= max(
        counts.company(kind, scene) for kind in scene.absent if kind not in absent["adversarial"]
    )
