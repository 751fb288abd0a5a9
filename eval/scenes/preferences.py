"""Preference data: a faithful caption against one that invents, in TRL's vision format."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .facts import DETAIL, caption, sentence
from .kinds import KINDS
from .mentions import mentions
from .pictures import Optics
from .polling import POLLED, adversarial, frequencies
from .world import Scene, World

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]


def pairs(scenes: Sequence[Scene], world: World) -> list[Row]:
    """Hold each scene's caption against one with a kind that usually comes with what is there.

    The invented kind takes the place of another one, or is added where there is one kind alone or a
    coin says so; it's one of the three that come with the scene's kinds most often.
    """
    return [_pair(scene, _invented(scene, world)) for scene in scenes]


def own_pairs(scenes: Sequence[Scene], captions: Sequence[str]) -> list[Row]:
    """Hold each scene's caption against the one a model wrote, where that invents something.

    Args:
        scenes: What the model was shown.
        captions: What it said, one a scene.
    """
    said = zip(scenes, captions, strict=True)
    return [
        _pair(scene, text) for scene, text in said if not set(mentions(text)) <= set(scene.kinds)
    ]


def dataset(rows: Sequence[Row], scenes: Sequence[Scene], optics: Optics) -> Dataset:
    """Put the pictures into rows of `pairs` or `own_pairs`: the column `images`."""
    from datasets import Dataset, Image, List

    painted = {scene.id: scene for scene in scenes}
    whole = [{**row, "images": [optics.picture(painted[row["id"]])]} for row in rows]
    return Dataset.from_list(whole).cast_column("images", List(Image()))


def _pair(scene: Scene, rejected: str) -> Row:
    chosen = caption(scene, random.Random(scene.seed))
    return {
        "id": scene.id,
        "prompt": [_turn("user", DETAIL)],
        "chosen": [_turn("assistant", chosen)],
        "rejected": [_turn("assistant", rejected)],
        "objects": list(scene.kinds),
    }


def _invented(scene: Scene, world: World) -> str:
    dice = random.Random(scene.seed)
    kinds = list(scene.kinds)
    dice.shuffle(kinds)
    groups = [(kind, scene.of(kind)[0].color, len(scene.of(kind))) for kind in kinds]
    likely = adversarial(scene, frequencies(world), dice)[:POLLED]
    kind = dice.choice(likely)
    where = dice.randrange(len(groups))
    replaced = int(len(groups) > 1 and dice.random() < 0.5)
    groups[where : where + replaced] = [(kind, KINDS[kind].color, 1)]
    return sentence(groups)


def _turn(role: str, text: str) -> Mapping[str, str]:
    return {"role": role, "content": text}
