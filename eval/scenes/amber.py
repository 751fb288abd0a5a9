"""AMBER on Scenes: captions held against what is there and what might be imagined, and questions.

Wang et al. 2023, "AMBER: An LLM-free Multi-dimensional Benchmark for MLLMs Hallucination
Evaluation", arXiv 2311.07397, as junyangwang0410/AMBER @534babf computes it: CHAIR is the share of
mentions that are not there, Cover the share of what is there that is mentioned, Hal the share of
captions with such a mention, Cog the share of what might be imagined that is. Of questions the
answer that counts as positive is "no". Deviations: kinds count once a picture, no word stands for
another, F1 isn't computed from rounded numbers, and answers are read as POPE's are. The kinds that
might be imagined are the ones that come most often with what is there. AMBER's relations are left
out: no two things of this world touch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from contralign.decoding.checks import one_of, whole

from ..ask import Ask, Row, Scored
from ..chair import hallucination, summarise_chair
from ..confusion import score_yes_no, summarise_yes_no
from ..statistics import Estimate, ratio, total_estimates
from ..yes_no import parse
from .benchmarks import TESTS, VERSION, closed_ask, rows_of
from .facts import DESCRIBE, IN_THE, IN_THIS, Question, existence, pair
from .mentions import mentions
from .pictures import Optics
from .polling import POLLED, adversarial, frequencies
from .world import Scene, World

TASKS = ("generative", "discriminative")
TYPES = {
    "color": "discriminative-attribute-state",
    "count": "discriminative-attribute-number",
    "existence": "discriminative-hallucination",
}
"""What a question is about -> AMBER's name for it."""
_OTHER = {"yes": "no", "no": "yes"}
_AS_CHAIR = {"hal": "chairs", "chair": "chairi", "cover": "recall"}


@dataclass(frozen=True)
class ScenesAMBER:
    """Captions or questions, as AMBER scores them.

    Attributes:
        task: "generative" asks for captions, "discriminative" asks questions.
        pictures: Scenes to ask about.
        split: "in-bias" or "counter-bias".
        world: Where they come from.
        optics: How well they're seen.
        max_new_tokens: The longest caption.
    """

    name: ClassVar[str] = "scenes-amber"
    version: ClassVar[str] = VERSION

    task: str = "generative"
    pictures: int = 100
    split: str = "in-bias"
    world: World = field(default_factory=World)
    optics: Optics = field(default_factory=Optics)
    max_new_tokens: int = 48

    def __post_init__(self) -> None:
        one_of("task", self.task, TASKS)
        whole("pictures", self.pictures, 1)
        one_of("split", self.split, TESTS)
        whole("max_new_tokens", self.max_new_tokens, 1)

    @property
    def metric(self) -> str:
        return "hal" if self.task == "generative" else "accuracy"

    def load(self) -> list[Row]:
        scenes = self.world.scenes(self.split, self.pictures)
        if self.task == "discriminative":
            return [row for scene in scenes for row in _asked(scene, self.world)]
        return [
            {
                "id": scene.id,
                "scene": scene,
                "gold": list(scene.kinds),
                "imagined": imaginable(scene, self.world),
            }
            for scene in scenes
        ]

    def ask(self, row: Row) -> Ask:
        if self.task == "discriminative":
            return closed_ask(row, self.optics)
        picture = self.optics.picture(row["scene"])
        return Ask(DESCRIBE, images=(picture,), max_new_tokens=self.max_new_tokens)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        if self.task == "discriminative":
            return score_yes_no(row["label"], answer)
        said = mentions(answer)
        values = hallucination(said, row["gold"])
        imagined = float(len({*said} & {*row["imagined"]}))
        return values | {
            "hal": values["chairs"],
            "imagined": imagined,
            "imaginable": float(len(row["imagined"])),
        }

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        if self.task == "discriminative":
            return _no_is_positive(scored)
        found = summarise_chair(scored)
        return {name: found[theirs] for name, theirs in _AS_CHAIR.items()} | _cog(scored)


def imaginable(scene: Scene, world: World) -> list[str]:
    """The absent kinds that come most often with what is there."""
    return adversarial(scene, frequencies(world), random.Random(0))[:POLLED]


def questions(scene: Scene, world: World) -> list[Question]:
    """Ask about color and number, a yes and a no each, and about kinds that aren't there."""
    asked = [
        question
        for about in ("color", "count")
        for question in pair(scene, about, random.Random(scene.seed)) or ()
    ]
    asked += [existence(scene, kind) for kind in imaginable(scene, world)]
    return [replace(one, text=one.text.replace(IN_THE, IN_THIS)) for one in asked]


def _asked(scene: Scene, world: World) -> list[Row]:
    asked = questions(scene, world)
    rows = rows_of(scene, "discriminative", asked)
    return [
        {**row, "category": TYPES[question.about]}
        for row, question in zip(rows, asked, strict=True)
    ]


def _no_is_positive(scored: Sequence[Scored]) -> dict[str, Estimate]:
    turned = [
        Scored(
            {**one.row, "label": _OTHER[one.row["label"]]},
            _OTHER.get(parse(one.answer) or "", one.answer),
            one.values,
        )
        for one in scored
    ]
    found = summarise_yes_no(turned, group=None) | _by_type(turned)
    return {name.replace("yes_ratio", "no_ratio"): one for name, one in found.items()}


def _by_type(turned: Sequence[Scored]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for kind in TYPES.values():
        inside = [one for one in turned if one.row["category"] == kind]
        for name, estimate in summarise_yes_no(inside, group=None).items():
            found[f"{name}/{kind}"] = estimate
    return found


def _cog(scored: Sequence[Scored]) -> dict[str, Estimate]:
    values: list[Any] = [[one.values["imagined"], one.values["imaginable"]] for one in scored]
    counts = np.array(values, dtype=float).reshape(len(values), 2)
    share = (lambda totals: ratio(totals[:, 0], totals[:, 1]), len(values))
    return total_estimates(counts, {"cog": share})
