"""CHAIR: which of the objects that a caption names are not in the picture?

Rohrbach et al. 2018, "Object Hallucination in Image Captioning", arXiv 1809.02156. CHAIRs is the
share of captions that name such an object, CHAIRi the share of such among all objects named, each
as often as it is named. Recall is the share of a picture's objects that its caption names;
precision and F1 are of each caption's different objects (LALBJ/PAI @9bbd8bd); all are ratios of
sums.

A picture's objects are those of its COCO instances and of its five reference captions, see `coco`.
Captions are read as a named script does, see `lemmas`; `ours` is the default. It finds words in
captions that ground truth made by the scripts' reading never has, as "cheesecake": make the ground
truth with the same reading. Papers draw 500 pictures each, never the same: a report says which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from contralign.decoding.checks import one_of, whole
from contralign.files import read_text

from .ask import Ask, Row, Scored
from .captions import read_caption
from .coco import picture_path, read_truth
from .lemmas import LEMMATIZERS
from .records import field, image_number, read_records
from .statistics import Estimate, Totals, mean_estimate, ratio, total_estimates
from .words import complete_sentences

PROMPTS: Mapping[str, str] = {
    "opera": "Please describe this image in detail.",
    "pai": "Please help me describe the image in detail.",
    "povid": "Describe this image.",
}
_PARTS = ("hallucinated", "mentions", "recalled", "truth", "named")


def hallucination(mentions: Sequence[str], truth: Collection[str]) -> dict[str, float | None]:
    """Hold what a caption names against what is there.

    Args:
        mentions: Kinds of objects, as often as they are named.
        truth: The kinds that are in the picture.

    Returns:
        `chairs`, 1 if something named is not there; `hallucinated` and all `mentions`; different
        kinds `named`, those `recalled`, and how many are there, `truth`.
    """
    invented = [kind for kind in mentions if kind not in truth]
    return {
        "chairs": float(bool(invented)),
        "hallucinated": float(len(invented)),
        "mentions": float(len(mentions)),
        "named": float(len({*mentions})),
        "recalled": float(len({*mentions} & {*truth})),
        "truth": float(len({*truth})),
    }


def summarise_chair(scored: Sequence[Scored]) -> dict[str, Estimate]:
    """Estimate CHAIRs, CHAIRi, recall, precision and F1, and the mean of `length` where it's there.

    CHAIRs has Wilson's interval, ratios of sums one of a bootstrap that draws whole captions; a
    ratio of nothing, as without any object named, is NaN.

    Args:
        scored: Captions with the values of `hallucination`.
    """
    values = [one.values for one in scored]
    counts = np.array([[value[part] or 0.0 for part in _PARTS] for value in values])
    counts = counts.reshape(len(values), len(_PARTS))
    mentioned = int(counts[:, _PARTS.index("mentions")].sum())
    captions = len(values)
    ratios = total_estimates(
        counts,
        {
            "chairi": (lambda totals: _share(totals, "hallucinated", "mentions"), mentioned),
            "recall": (lambda totals: _share(totals, "recalled", "truth"), captions),
            "precision": (lambda totals: _share(totals, "recalled", "named"), captions),
            "f1": (_f1, captions),
        },
    )
    summary = {"chairs": mean_estimate([value["chairs"] or 0.0 for value in values]), **ratios}
    lengths = [length for value in values if (length := value.get("length")) is not None]
    return summary | ({"length": mean_estimate(lengths)} if lengths else {})


def _share(totals: Totals, part: str, whole_: str) -> np.ndarray:
    return ratio(totals[:, _PARTS.index(part)], totals[:, _PARTS.index(whole_)])


def _f1(totals: Totals) -> np.ndarray:
    columns = dict(zip(_PARTS, totals.T, strict=True))
    return ratio(2 * columns["recalled"], columns["named"] + columns["truth"])


@dataclass(frozen=True)
class Chair:
    """CHAIRs, CHAIRi, recall, precision, F1 and length, the last in words and marks.

    CHAIRs is the headline: less is better.

    Attributes:
        truth: JSON of image number -> its objects, made by `contralign coco`.
        images: The folder of the pictures, which is needed to ask, not to score captions.
        listed: A text file of image numbers or file names, one a line, to caption; None takes all
            pictures of `truth`.
        file_name: How a number becomes a file's name; None tries COCO's val2014, train2014, and
            the bare number of 12 digits.
        prompt: "opera", "pai" or "povid".
        reading: How captions are read, a name in `lemmas.LEMMATIZERS`. The default is ours;
            "pattern" is the original's, "wordnet" OPERA's.
        cut: Leave out what follows the last period, as OPERA does for captions of 64 tokens.
        max_new_tokens: Of a caption.
    """

    name: ClassVar[str] = "chair"
    metric: ClassVar[str] = "chairs"

    truth: str | Path | None = None
    images: str | Path | None = None
    listed: str | Path | None = None
    file_name: str | None = None
    prompt: str = "opera"
    reading: str = "ours"
    cut: bool = False
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        one_of("prompt", self.prompt, PROMPTS)
        one_of("reading", self.reading, LEMMATIZERS)
        whole("max_new_tokens", self.max_new_tokens, 1)

    @property
    def version(self) -> str:
        return f"1; truth={read_truth(self.truth).version}"

    def load(self) -> list[Row]:
        """List the pictures with their objects.

        Raises:
            OSError: A file can't be read.
            ValueError: No ground truth is named, a listed picture has none or stands twice.
        """
        objects = read_truth(self.truth).objects
        numbers = [*objects] if self.listed is None else _listed(Path(self.listed))
        unknown = [number for number in numbers if number not in objects]
        if unknown:
            raise ValueError(
                f"{self.listed}: {self.truth} has no objects of picture {unknown[0]}, and of "
                f"{len(unknown)} pictures in all. Make ground truth of the annotations they are in."
            )
        return [_row(number, objects[number]) for number in numbers]

    def ask(self, row: Row) -> Ask:
        """Ask for a caption.

        Raises:
            ValueError: No folder of pictures is named.
        """
        if self.images is None:
            raise ValueError(
                "CHAIR asks about pictures, got images=None. Pass images=, the folder that holds "
                f"picture {row['id']}."
            )
        path = picture_path(Path(self.images), row["image"], self.file_name)
        return Ask(PROMPTS[self.prompt], images=(str(path),), max_new_tokens=self.max_new_tokens)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        said = read_caption(complete_sentences(answer) if self.cut else answer, self.reading)
        values = hallucination(said.mentions, row["objects"])
        return values | {"length": float(len(said.words))}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return summarise_chair(scored)

    def read_answers(
        self, path: str | Path, *, ignore_extra: bool = False
    ) -> list[tuple[Row, str]]:
        """Match a file of captions to the pictures: one each.

        Args:
            path: JSON lines or an array of `image_id` and `caption`. With `listed` it must caption
                all pictures of the list; without, its own are the list.
            ignore_extra: Leave out captions of other pictures.

        Raises:
            OSError: A file can't be read.
            ValueError: A caption without ground truth, two of one picture, or one missing.
        """
        rows = {row["image"]: row for row in self.load()}
        said: dict[int, tuple[str, str]] = {}
        for record in read_records(path):
            place = record[0]
            number = image_number(field(record, ("image_id", "image"), (int, str)), place)
            if number in said:
                raise ValueError(
                    f"{place}: picture {number} has another caption at {said[number][0]}. Keep one."
                )
            if number in rows:
                said[number] = (place, field(record, ("caption", "text", "answer")))
            elif not ignore_extra:
                raise ValueError(
                    f"{place}: there is no ground truth of picture {number}. Make it of the "
                    "annotations that have it, or leave such captions out with --ignore-extra."
                )
        missing = [number for number in rows if number not in said] if self.listed else []
        if missing or not said:
            raise ValueError(
                f"{path} captions {len(said)} of {len(rows)} pictures"
                + (f"; the first that is missing is {missing[0]}." if missing else ".")
            )
        return [(rows[number], caption) for number, (_, caption) in said.items()]


def _row(number: int, objects: Collection[str]) -> Row:
    kinds = sorted(objects)
    return {"id": str(number), "image": number, "objects": kinds, "gold": kinds}


def _listed(path: Path) -> list[int]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    numbers = [image_number(line, f"{path}:{index}") for index, line in enumerate(lines, 1) if line]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice or not numbers:
        raise ValueError(
            f"{path} lists pictures, each once"
            + (f", got {twice[0]} more than once." if twice else ", got none.")
        )
    return numbers
