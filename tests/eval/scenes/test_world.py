from __future__ import annotations

import pytest

from contralign.eval.scenes.kinds import KINDS, THEMES
from contralign.eval.scenes.world import SIZES, SPLITS, Scene, Thing, World


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_depends_on_its_number_alone(split: str) -> None:
    world = World()
    assert world.scenes(split, 3, start=5) == world.scenes(split, 8)[5:]
    assert len(set(world.scenes(split, 30))) == 30
    assert world.scene(split, 1).things != World(seed=1).scene(split, 1).things


def test_a_change_of_the_draws_needs_a_new_version() -> None:
    things = (Thing("pan", "green", 2), Thing("fork", "purple", 8), Thing("cup", "blue", 7))
    assert World.version == "1"
    assert World(bias=0.9, usual=0.8, repeat=0.2).scene("in-bias", 0).things[:3] == things


@pytest.mark.parametrize("split", SPLITS)
def test_things_stand_apart_and_those_of_a_kind_look_alike(split: str) -> None:
    for scene in World().scenes(split, 200):
        assert len(scene.things) in SIZES
        assert len({thing.place for thing in scene.things}) == len(scene.things)
        assert len({(thing.kind, thing.color) for thing in scene.things}) == len(scene.kinds)


def test_the_bias_is_how_often_kinds_share_a_theme_and_have_their_color() -> None:
    scenes = World(bias=1, usual=1).scenes("train", 200)
    small = [scene for scene in scenes if len(scene.kinds) <= 5]
    assert all(len({KINDS[kind].theme for kind in scene.kinds}) == 1 for scene in small)
    assert all(thing.color == KINDS[thing.kind].color for s in scenes for thing in s.things)


def test_counter_bias_shares_no_theme_and_has_no_usual_color() -> None:
    for scene in World().scenes("counter-bias", 200):
        themes = {KINDS[kind].theme for kind in scene.kinds}
        assert len(themes) == min(len(scene.kinds), len(THEMES))
        assert all(thing.color != KINDS[thing.kind].color for thing in scene.things)


def test_a_scene_knows_what_is_in_it() -> None:
    scene = Scene("x", 0, (Thing("cup", "red", 0), Thing("ball", "red", 1), Thing("cup", "red", 2)))
    assert scene.kinds == ("cup", "ball")
    assert sorted((*scene.kinds, *scene.absent)) == sorted(KINDS)
    assert [thing.place for thing in scene.of("cup")] == [0, 2]


@pytest.mark.parametrize("name", ["bias", "usual", "repeat"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_probabilities_are_checked(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is a probability, got {value}"):
        World(**{name: value})


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be one of train, in-bias"):
        World().scene("test", 0)
