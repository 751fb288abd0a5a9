"""What can be said and asked about a scene, in the benchmarks' own words.

Existence questions are POPE's, the others MME's; prompts for captions are CHAIR's and AMBER's.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .kinds import COLORS, KINDS
from .world import GRID, Scene

ABOUT = ("existence", "count", "color", "position")
NUMBERS = ("one", "two", "three", "four", "five")
MIDDLE = "middle"
ROWS, COLUMNS = ("top", MIDDLE, "bottom"), ("left", MIDDLE, "right")
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
DETAIL = "Please describe this image in detail."
DESCRIBE = "Describe this image."
SHORT = " Please answer yes or no."
IN_THE, IN_THIS = "in the image?", "in this image?"
"""How POPE and MME end their questions, and how AMBER does."""


@dataclass(frozen=True)
class Question:
    """A question that is answered by yes or no.

    Attributes:
        about: One of `ABOUT`.
        text: As the model reads it.
        truth: What the scene says.
    """

    about: str
    text: str
    truth: bool

    @property
    def label(self) -> str:
        return "yes" if self.truth else "no"


def existence(scene: Scene, kind: str) -> Question:
    """Ask whether there is such a thing."""
    text = f"Is there {KINDS[kind].article} {kind} in the image?"
    return Question("existence", text, kind in scene.kinds)


def counted(scene: Scene, kind: str, number: int) -> Question:
    """Ask whether there are so many of a kind."""
    many = f"Are there {NUMBERS[number - 1]} {KINDS[kind].plural} in the image?"
    text = f"Is there only one {kind} in the image?" if number == 1 else many
    return Question("count", text, len(scene.of(kind)) == number)


def colored(scene: Scene, kind: str, color: str) -> Question:
    """Ask whether there is such a thing of such a color."""
    truth = any(thing.color == color for thing in scene.of(kind))
    return Question("color", f"Is there a {color} {kind} in the image?", truth)


def positioned(scene: Scene, kind: str, side: str) -> Question:
    """Ask whether the one thing of its kind is on one side; the middle is on none."""
    text = f"Is there {KINDS[kind].article} {kind} on the {side} side of the image?"
    return Question("position", text, side in _sides(scene.of(kind)[0].place))


def pair(scene: Scene, about: str, dice: random.Random) -> tuple[Question, Question] | None:
    """Ask what is so and what is not, about one kind where that makes sense.

    Counts are about a kind that there are several of, if there is one.

    Returns:
        A question whose answer is yes and one whose answer is no; None where the scene has nothing
        to ask about.
    """
    kind = _chosen(scene, about, dice)
    if about == "existence":
        return existence(scene, kind), existence(scene, dice.choice(scene.absent))
    if about == "count":
        number = len(scene.of(kind))
        other = dice.choice([n for n in (number - 1, number + 1) if 1 <= n <= len(NUMBERS)])
        return counted(scene, kind, number), counted(scene, kind, other)
    if about == "color":
        color = scene.of(kind)[0].color
        other_color = dice.choice([name for name in COLORS if name != color])
        return colored(scene, kind, color), colored(scene, kind, other_color)
    return _position_pair(scene, dice)


def lookup(scene: Scene, dice: random.Random) -> tuple[str, str]:
    """Ask for the color, the number or the place of a kind that is there, and answer.

    Numbers are asked for as by `pair`.
    """
    about = detail(dice)
    kind = _chosen(scene, about, dice)
    things, plural = scene.of(kind), KINDS[kind].plural
    if about == "count":
        return f"How many {plural} are in the image?", f"{NUMBERS[len(things) - 1]}."
    named = f"is the {kind}" if len(things) == 1 else f"are the {plural}"
    if about == "position" and len(things) == 1:
        return f"Where {named} in the image?", f"{' '.join(_sides(things[0].place)) or MIDDLE}."
    return f"What color {named} in the image?", f"{things[0].color}."


def detail(dice: random.Random) -> str:
    """Choose what to ask about: the harder to learn, the more often, places most of all."""
    return dice.choices(ABOUT[1:], (2, 1, 3))[0]


def caption(scene: Scene, dice: random.Random) -> str:
    """Name everything in a scene, in an order of chance."""
    kinds = list(scene.kinds)
    dice.shuffle(kinds)
    return sentence((kind, scene.of(kind)[0].color, len(scene.of(kind))) for kind in kinds)


def sentence(groups: Iterable[tuple[str, str, int]]) -> str:
    """Write a caption of kinds, colors and numbers: `There is a red ball and two blue cups.`."""
    said = [(_said(*group), group[2]) for group in groups]
    verb = "is" if said[0][1] == 1 else "are"
    return f"There {verb} {joined([text for text, _ in said])}."


def joined(words: Sequence[str]) -> str:
    """List words: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _chosen(scene: Scene, about: str, dice: random.Random) -> str:
    several = [kind for kind in scene.kinds if len(scene.of(kind)) > 1]
    return dice.choice(several if several and about == "count" else scene.kinds)


def _said(kind: str, color: str, number: int) -> str:
    if number == 1:
        return f"a {color} {kind}"
    return f"{NUMBERS[number - 1]} {color} {KINDS[kind].plural}"


def _position_pair(scene: Scene, dice: random.Random) -> tuple[Question, Question] | None:
    sided = [t for t in scene.things if len(scene.of(t.kind)) == 1 and _sides(t.place)]
    if not sided:
        return None
    thing = dice.choice(sided)
    side = dice.choice(_sides(thing.place))
    return positioned(scene, thing.kind, side), positioned(scene, thing.kind, OPPOSITE[side])


def _sides(place: int) -> list[str]:
    row, column = divmod(place, GRID)
    return [side for side in (ROWS[row], COLUMNS[column]) if side != MIDDLE]
