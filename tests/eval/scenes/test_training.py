from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from contralign.decoding import encode
from contralign.eval.scenes.lessons import SEEN, UNKNOWN, UNSEEN, Lesson
from contralign.eval.scenes.network import EMPTY, Size, processor
from contralign.eval.scenes.pictures import Optics
from contralign.eval.scenes.training import (
    IGNORED,
    NAMES,
    Recipe,
    named,
    pixels,
    taught,
    train,
)
from contralign.eval.scenes.world import Scene, Thing, World

SMALL = Size(width=32, layers=2, tower_width=32, tower_layers=1, heads=2)
TINY = Recipe(naming_steps=3, steps=3, batch_size=8, size=SMALL)
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


def test_lessons_are_encoded_as_the_processor_encodes_them() -> None:
    reader, optics = processor(), Optics()
    lessons = [
        Lesson(SEEN, "Describe this image.", "There is a red cup."),
        Lesson(SEEN, "Is", "No"),
    ]
    inputs = taught(reader, optics, SCENES[:2], lessons)
    for row, lesson in enumerate(lessons):
        content = [{"type": "image"}, {"type": "text", "text": lesson.prompt}]
        picture = optics.picture(SCENES[row])
        expected = encode(reader, [[{"role": "user", "content": content}]], [[picture]])
        width = expected["input_ids"].shape[1]
        assert torch.equal(inputs["input_ids"][row, :width], expected["input_ids"][0])
        assert torch.allclose(inputs["pixel_values"][row], expected["pixel_values"][0], atol=1e-6)
        assert (inputs["labels"][row, :width] == IGNORED).all()
        answer = inputs["labels"][row, width:]
        assert reader.tokenizer.decode(answer[answer != IGNORED]) == f"{lesson.answer}</s>"
        assert inputs["attention_mask"][row].sum() == width + (answer != IGNORED).sum()


def test_without_its_picture_a_lesson_has_nothing_or_an_unknown_token() -> None:
    lessons = [Lesson(picture, "Describe this image.", "No") for picture in (UNSEEN, UNKNOWN)]
    inputs = taught(processor(), Optics(), SCENES[:2], lessons)
    assert "pixel_values" not in inputs
    unseen, unknown = inputs["input_ids"].tolist()
    unknown.remove(processor().tokenizer.unk_token_id)
    assert unseen[: len(unknown)] == unknown


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


def test_the_loss_weighs_every_turn_alike() -> None:
    from contralign.eval.scenes.training import _loss

    torch.manual_seed(0)
    model = train(replace(TINY, naming_steps=0, steps=0))[0]
    lessons = [
        Lesson(UNSEEN, "Is", "No"),
        Lesson(UNSEEN, "Is", "There is a red cup and a blue cup."),
    ]
    alone = [_loss(model, taught(processor(), Optics(), SCENES[:1], [one])) for one in lessons]
    both = _loss(model, taught(processor(), Optics(), SCENES[:2], lessons))
    assert both.item() == pytest.approx((alone[0].item() + alone[1].item()) / 2, rel=1e-4)


def test_pixels_are_between_minus_one_and_one() -> None:
    values = pixels([Optics(noise=200).picture(scene) for scene in SCENES])
    assert values.shape == (3, 3, 72, 72)
    assert (values.min(), values.max()) == (-1, 1)
