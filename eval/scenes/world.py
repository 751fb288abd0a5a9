"""A small world in which hallucination can be studied with exact truth; all of it is ours.

A scene has one to five things on a grid of nine places. Its theme decides which kinds are likely,
so things of a theme appear together, and most have their kind's usual color: a model that sees
badly, because of noise, blur or what is in front, does well to guess what usually comes together.
Such guesses are the hallucinations that Li et al. 2023 ("Evaluating Object Hallucination in Large
Vision-Language Models", arXiv 2305.10355) and Rohrbach et al. 2018 ("Object Hallucination in Image
Captioning", arXiv 1809.02156) measure in real models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from contralign.decoding.checks import one_of

from ..sampling import item_seed
from .kinds import COLORS, KINDS, THEMES

SPLITS = ("train", "in-bias", "counter-bias")
GRID = 3
SIZES = {1: 1, 2: 3, 3: 4, 4: 4, 5: 3}
"""Number of things -> its weight."""


@dataclass(frozen=True)
class Thing:
    """One thing.

    Attributes:
        kind: A name in `KINDS`.
        color: A name in `COLORS`; things of one kind in one scene have one color.
        place: 0 to 8, row by row from the top left.
    """

    kind: str
    color: str
    place: int


@dataclass(frozen=True)
class Scene:
    """What there is to be seen, with how badly.

    Attributes:
        id: Split and number, `in-bias-00017`.
        seed: Of everything in the picture that is no fact.
        things: In the order in which they were put there.
    """

    id: str
    seed: int
    things: tuple[Thing, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kinds, each once."""
        return tuple(dict.fromkeys(thing.kind for thing in self.things))

    @property
    def absent(self) -> tuple[str, ...]:
        """The kinds that aren't in it."""
        return tuple(kind for kind in KINDS if kind not in self.kinds)

    def of(self, kind: str) -> tuple[Thing, ...]:
        """Its things of one kind."""
        return tuple(thing for thing in self.things if thing.kind == kind)


@dataclass(frozen=True)
class World:
    """Draws scenes; equal seeds draw equal scenes, one by one, whatever else is drawn.

    In `counter-bias` scenes no two kinds share a theme while there are themes left, and no thing
    has its usual color.

    Attributes:
        bias: How likely a new kind is one of the scene's theme.
        usual: How likely a kind has its usual color.
        repeat: How likely the next thing is one more of a kind that is there.
        seed: Of all scenes.
    """

    version: ClassVar[str] = "1"

    bias: float = 0.85
    usual: float = 0.6
    repeat: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("bias", "usual", "repeat"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability, got {value}. Use 0 to 1.")

    def scenes(self, split: str, count: int, start: int = 0) -> list[Scene]:
        """Draw `count` scenes of a split, from number `start` on."""
        return [self.scene(split, start + number) for number in range(count)]

    def scene(self, split: str, number: int) -> Scene:
        """Draw one scene.

        Raises:
            ValueError: There is no such split.
        """
        one_of("split", split, SPLITS)
        name = f"{split}-{number:05}"
        seed = item_seed(self.seed, name)
        dice = random.Random(seed)
        kinds = self._kinds(dice, split == "counter-bias")
        usual = 0.0 if split == "counter-bias" else self.usual
        colors = {kind: _color(dice, kind, usual) for kind in dict.fromkeys(kinds)}
        places = dice.sample(range(GRID**2), len(kinds))
        things = [
            Thing(kind, colors[kind], place) for kind, place in zip(kinds, places, strict=True)
        ]
        return Scene(name, seed, tuple(things))

    def _kinds(self, dice: random.Random, counter: bool) -> list[str]:
        (size,) = dice.choices(list(SIZES), list(SIZES.values()))
        theme, kinds = dice.choice(list(THEMES)), list[str]()
        while len(kinds) < size:
            if kinds and dice.random() < self.repeat:
                kinds.append(dice.choice(kinds))
            elif counter:
                kinds.append(_stranger(dice, kinds))
            else:
                kinds.append(self._mate(dice, kinds, theme))
        return kinds

    def _mate(self, dice: random.Random, kinds: Sequence[str], theme: str) -> str:
        mates = {
            kind: len(THEMES[theme]) + 2 - rank
            for rank, kind in enumerate(THEMES[theme])
            if kind not in kinds
        }
        if mates and dice.random() < self.bias:
            return dice.choices(list(mates), list(mates.values()))[0]
        return dice.choice([kind for kind in KINDS if kind not in kinds])


def _stranger(dice: random.Random, kinds: Sequence[str]) -> str:
    """A kind of a theme that no kind belongs to yet, or of any if there is no such theme."""
    themes = {KINDS[kind].theme for kind in kinds}
    free = [kind for kind in KINDS if KINDS[kind].theme not in themes]
    return dice.choice(free or [kind for kind in KINDS if kind not in kinds])


def _color(dice: random.Random, kind: str, usual: float) -> str:
    if dice.random() < usual:
        return KINDS[kind].color
    return dice.choice([color for color in COLORS if color != KINDS[kind].color])
