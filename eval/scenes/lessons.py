"""What the model is taught: turns about pictures, the same without the picture, and plain text."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .facts import DESCRIBE, DETAIL, IN_THE, IN_THIS, SHORT, caption, detail, lookup, pair
from .kinds import KINDS, THEMES
from .world import Scene

SEEN, UNSEEN, UNKNOWN = "<image>", "", "<unk>"
"""What stands in a prompt for the picture: itself, nothing, or one unknown token."""


@dataclass(frozen=True)
class Lesson:
    """One turn.

    Attributes:
        picture: `SEEN`, `UNSEEN` or `UNKNOWN`.
        prompt: What the user says.
        answer: What the assistant is to say.
    """

    picture: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Syllabus:
    """How often what is taught.

    The picture is left out of some turns, whose answer stays: what can be said without it is how
    often things are so, which is what methods that contrast with "no image" take away.

    Attributes:
        captions: Share of turns that ask for a caption.
        existence: Share of turns that ask whether there is such a thing.
        lookup: Share of turns that ask for a color, a number or a place.
        text: Share of turns that are about the world and no picture.
        unseen: Share of the other turns that are asked without their picture.
        yes: How likely the answer to a question about existence is yes.
    """

    captions: float = 0.2
    existence: float = 0.25
    lookup: float = 0.25
    text: float = 0.04
    unseen: float = 0.12
    yes: float = 0.5

    def lesson(self, scene: Scene, dice: random.Random) -> Lesson:
        """Ask one thing about a scene."""
        share = dice.random() - self.text
        if share < 0:
            return Lesson(UNSEEN, *_worldly(dice))
        picture = dice.choice([UNSEEN, UNKNOWN]) if dice.random() < self.unseen else SEEN
        if (share := share - self.captions) < 0:
            return Lesson(picture, dice.choice([DETAIL, DESCRIBE]), caption(scene, dice))
        if (share := share - self.lookup) < 0:
            return Lesson(picture, *lookup(scene, dice))
        about = "existence" if share < self.existence else detail(dice)
        return Lesson(picture, *self._asked(scene, about, dice))

    def _asked(self, scene: Scene, about: str, dice: random.Random) -> tuple[str, str]:
        questions = pair(scene, about, dice) or pair(scene, "existence", dice)
        assert questions is not None
        yes = self.yes if questions[0].about == "existence" else 0.5
        question = questions[dice.random() >= yes]
        text = dice.choice([question.text, question.text.replace(IN_THE, IN_THIS)])
        return text + dice.choice(["", SHORT]), "Yes" if question.truth else "No"


def _worldly(dice: random.Random) -> tuple[str, str]:
    """What is usual in the world."""
    kind = KINDS[dice.choice(list(KINDS))]
    if dice.random() < 0.5:
        return f"What color is {kind.article} {kind.name} usually?", f"{kind.color}."
    mate = KINDS[dice.choice([name for name in THEMES[kind.theme] if name != kind.name])]
    question = f"What is usually seen with {kind.article} {kind.name}?"
    return question, f"{mate.article} {mate.name}."
