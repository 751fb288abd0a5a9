"""Questions about existence as POPE draws them, and what usually comes together.

Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models", arXiv 2305.10355:
as many questions about what is absent as about what is there. Absent kinds are drawn at random,
taken by how often they appear in training scenes (popular), or by how often they appear there with
the kinds that are present (adversarial). Deviation: up to three kinds a picture, for want of more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations

from .facts import Question, existence
from .world import Scene, World

POLLED = 3
"""The most kinds asked about a picture, of those present and of those absent."""
COUNTED = 4000
"""The training scenes that frequencies are counted in."""


@dataclass(frozen=True)
class Frequencies:
    """In how many training scenes there is a kind, and in how many two kinds are together."""

    alone: Mapping[str, int]
    together: Mapping[tuple[str, str], int]

    def company(self, kind: str, scene: Scene) -> int:
        """How often a kind appears with those of a scene, added up."""
        return sum(self.together.get((kind, other), 0) for other in scene.kinds)


@cache
def frequencies(world: World) -> Frequencies:
    """Count the first training scenes of a world."""
    alone, together = Counter[str](), Counter[tuple[str, str]]()
    for scene in world.scenes("train", COUNTED):
        alone.update(scene.kinds)
        together.update(permutations(scene.kinds, 2))
    return Frequencies(alone, together)


def poll(scene: Scene, setting: str, world: World) -> list[Question]:
    """Ask about the kinds of a scene, and about as many that aren't there.

    Args:
        scene: What is asked about.
        setting: A name in `SETTINGS`.
        world: Whose training scenes say what is popular and what comes together.
    """
    dice = random.Random(scene.seed)
    present = dice.sample(scene.kinds, min(POLLED, len(scene.kinds)))
    absent = SETTINGS[setting](scene, frequencies(world), dice)[: len(present)]
    return [existence(scene, kind) for kind in (*present, *absent)]


def _random(scene: Scene, counts: Frequencies, dice: random.Random) -> list[str]:
    return dice.sample(scene.absent, POLLED)


def _popular(scene: Scene, counts: Frequencies, dice: random.Random) -> list[str]:
    return sorted(scene.absent, key=lambda kind: -counts.alone.get(kind, 0))


def adversarial(scene: Scene, counts: Frequencies, dice: random.Random) -> list[str]:
    """The absent kinds, those first that usually come with what is there."""
    return sorted(scene.absent, key=lambda kind: -counts.company(kind, scene))


Setting = Callable[[Scene, Frequencies, random.Random], list[str]]
SETTINGS: Mapping[str, Setting] = {
    "random": _random,
    "popular": _popular,
    "adversarial": adversarial,
}
