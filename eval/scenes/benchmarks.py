"""POPE, CHAIR and MME on Scenes: their questions and scores, with exact truth and nothing to load.

Li et al. 2023, arXiv 2305.10355 (POPE); Rohrbach et al. 2018, arXiv 1809.02156 (CHAIR); Fu et al.
2023, "MME: A Comprehensive Evaluation Benchmark for Multimodal Large Language Models", arXiv
2306.13394. Answers are scored by what scores those of the real POPE and CHAIR. MME's own score is
accuracy plus the share of pictures with both answers right; here both are reported apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from contralign.decoding.checks import one_of, whole

from ..ask import Ask, Row, Scored
from ..chair import hallucination, summarise_chair
from ..confusion import score_yes_no, summarise_yes_no
from ..statistics import Estimate, mean_estimate
from .facts import ABOUT, DETAIL, SHORT, Question, pair
from .mentions import mentions
from .pictures import Optics
from .polling import SETTINGS, poll
from .world import Scene, World

COUNTER = "counter-bias"
TESTS = ("in-bias", COUNTER)
VERSION = f"1-{World.version}"


@dataclass(frozen=True)
class ScenesPOPE:
    """Is there such a thing? Asked as POPE does, and about scenes that go against the bias.

    Rows come in POPE's three settings on scenes like those of training, and as `counter-bias`, with
    absent kinds drawn at random, on scenes whose things don't usually come together.

    Attributes:
        pictures: Scenes of either kind.
        world: Where they come from.
        optics: How well they're seen.
    """

    name: ClassVar[str] = "scenes-pope"
    metric: ClassVar[str] = "accuracy"
    version: ClassVar[str] = VERSION

    pictures: int = 60
    world: World = field(default_factory=World)
    optics: Optics = field(default_factory=Optics)

    def __post_init__(self) -> None:
        whole("pictures", self.pictures, 1)

    def load(self) -> list[Row]:
        asked = [(setting, "in-bias", setting) for setting in SETTINGS]
        return [
            row
            for category, split, setting in (*asked, (COUNTER, COUNTER, "random"))
            for scene in self.world.scenes(split, self.pictures)
            for row in rows_of(scene, category, poll(scene, setting, self.world))
        ]

    def ask(self, row: Row) -> Ask:
        return closed_ask(row, self.optics)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return score_yes_no(row["label"], answer)

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return summarise_yes_no(scored, group="category")


@dataclass(frozen=True)
class ScenesMME:
    """Two questions a picture, one to be answered by yes and one by no, on MME's coarse tasks.

    Attributes:
        pictures: Scenes that each task asks about, where there is something to ask.
        split: "in-bias" or "counter-bias".
        world: Where they come from.
        optics: How well they're seen.
    """

    name: ClassVar[str] = "scenes-mme"
    metric: ClassVar[str] = "accuracy"
    version: ClassVar[str] = VERSION

    pictures: int = 60
    split: str = "in-bias"
    world: World = field(default_factory=World)
    optics: Optics = field(default_factory=Optics)

    def __post_init__(self) -> None:
        whole("pictures", self.pictures, 1)
        one_of("split", self.split, TESTS)

    def load(self) -> list[Row]:
        return [
            row
            for about in ABOUT
            for scene in self.world.scenes(self.split, self.pictures)
            for row in rows_of(scene, about, pair(scene, about, random.Random(scene.seed)) or ())
        ]

    def ask(self, row: Row) -> Ask:
        ask = closed_ask(row, self.optics)
        return replace(ask, prompt=ask.prompt + SHORT)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return score_yes_no(row["label"], answer)

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        summary = summarise_yes_no(scored, group="category")
        return summary | {f"both/{about}": _both(scored, about) for about in ABOUT}


@dataclass(frozen=True)
class ScenesCHAIR:
    """What is in the picture? Kinds that a caption mentions and that aren't there are invented.

    Attributes:
        pictures: Scenes to describe.
        split: "in-bias" or "counter-bias".
        world: Where they come from.
        optics: How well they're seen.
        max_new_tokens: The longest caption.
    """

    name: ClassVar[str] = "scenes-chair"
    metric: ClassVar[str] = "chairs"
    version: ClassVar[str] = VERSION

    pictures: int = 100
    split: str = "in-bias"
    world: World = field(default_factory=World)
    optics: Optics = field(default_factory=Optics)
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        whole("pictures", self.pictures, 1)
        one_of("split", self.split, TESTS)
        whole("max_new_tokens", self.max_new_tokens, 1)

    def load(self) -> list[Row]:
        return [
            {"id": scene.id, "scene": scene, "gold": list(scene.kinds)}
            for scene in self.world.scenes(self.split, self.pictures)
        ]

    def ask(self, row: Row) -> Ask:
        picture = self.optics.picture(row["scene"])
        return Ask(DETAIL, images=(picture,), max_new_tokens=self.max_new_tokens)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return hallucination(mentions(answer), row["gold"])

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return summarise_chair(scored)


def rows_of(scene: Scene, category: str, questions: Sequence[Question]) -> Iterator[Row]:
    """Make a row of each question about a scene."""
    for number, question in enumerate(questions, 1):
        yield {
            "id": f"{scene.id}/{category}/{number}",
            "image": scene.id,
            "scene": scene,
            "category": category,
            "question": question.text,
            "label": question.label,
            "gold": question.label,
        }


def closed_ask(row: Row, optics: Optics) -> Ask:
    """Ask a row's question, to be answered by yes or no."""
    picture = optics.picture(row["scene"])
    return Ask(row["question"], images=(picture,), choices=("Yes", "No"), max_new_tokens=4)


def _both(scored: Sequence[Scored], about: str) -> Estimate:
    """The share of pictures whose two questions are both answered right."""
    right: dict[str, list[bool]] = {}
    for one in scored:
        if one.row["category"] == about:
            right.setdefault(one.row["image"], []).append(one.values["accuracy"] == 1)
    return mean_estimate([float(all(both)) for both in right.values()])
