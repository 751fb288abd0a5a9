from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from contralign.eval.scenes.network import EMPTY, Size
from contralign.eval.scenes.sheets import IGNORED
from contralign.eval.scenes.training import NAMES, Recipe, named, train
from contralign.eval.scenes.world import Scene, Thing, World

SMALL = Size(width=32, layers=2, tower_width=32, tower_layers=1, heads=2)
TINY = Recipe(naming_steps=3, steps=3, batch_size=4, lessons=2, size=SMALL)
SCENES = World().scenes("train", 3)


def test_a_place_is_named_by_what_stands_there() -> None:
    numbers = named([Scene("x", 0, (Thing("bell", "black", 5),)), SCENES[0]])
    assert numbers.shape == (4, 18)
    said = [
        [None if number == IGNORED else names[number] for number in row]
        for names, row in zip(NAMES, numbers[:, :9].tolist(), strict=True)
    ]
    kinds, colors, rows, columns = said
    assert kinds == [EMPTY] * 5 + ["bell"] + [EMPTY] * 3
    assert colors == [EMPTY] * 5 + ["black"] + [EMPTY] * 3
    assert rows == [None] * 5 + ["middle"] + [None] * 3
    assert columns == [None] * 5 + ["right"] + [None] * 3


def test_the_same_recipe_makes_the_same_model() -> None:
    told: list[tuple[str, int]] = []
    models = [train(TINY, lambda stage, step, loss: told.append((stage, step)))[0] for _ in "ab"]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert told[:6] == [(stage, step) for stage in ("naming", "talking") for step in (1, 2, 3)]
    assert not models[0].training
    other = train(replace(TINY, world=World(seed=1)))[0].state_dict()
    assert not all(torch.equal(states[0][name], other[name]) for name in other)


def test_the_tower_learns_to_name_and_stays_as_it_is_afterwards() -> None:
    def tower(recipe: Recipe) -> Any:
        return train(recipe)[0].model.vision_tower.state_dict()

    named_only, untrained = tower(replace(TINY, steps=0)), tower(replace(TINY, naming_steps=0))
    both = tower(TINY)
    assert all(torch.equal(both[name], named_only[name]) for name in both)
    assert any(not torch.equal(both[name], untrained[name]) for name in both)
