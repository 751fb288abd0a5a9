"""POPE: is the object in the picture? Yes/no questions about objects that are there and not there.

Li et al. 2023, "Evaluating Object Hallucination in Large Vision-Language Models", arXiv 2305.10355;
files of AoiDragon/POPE and of those who released them again, see `pope_files`. Objects that are not
there are drawn at random, from the popular ones, or from those that often stand beside the ones
that are. Scores follow a named parser, see `yes_no`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from contralign.decoding.checks import one_of, whole

from .ask import READINGS, Ask, Row, Scored
from .confusion import score_yes_no, summarise_yes_no
from .pope_answers import match_answers
from .pope_files import SPLITS, question_files, read_questions, version
from .records import read_records
from .statistics import Estimate
from .yes_no import PARSERS

PROMPTS: Mapping[str, str] = {
    "llava": "{question}\nAnswer the question using a single word or phrase.",
    "vcd": "{question} Please answer this question with one word.",
    "evalscope": "{question}\nPlease answer YES or NO without an explanation.",
    "bare": "{question}",
}
LABELS = ("Yes", "No")
NOISE = ("question", "image")


@dataclass(frozen=True)
class Pope:
    """Accuracy, F1, precision, recall, yes ratio and unparsed share, of each split and their means.

    Attributes:
        path: A folder with the files of `dataset`, or one file of questions; None is `pope_vcd`
            in the folder that the environment variable `CONTRALIGN_DATA` names.
        images: The folder of the pictures, which is needed to ask, not to score answers.
        dataset: "coco", "aokvqa" or "gqa": how the files in the folder begin.
        splits: Of random, popular and adversarial those to ask, with commas between.
        prompt: How questions are put: "llava", "vcd", "evalscope", or "bare" as OPERA and DeCo do.
        parser: How answers are read, a name in `yes_no.PARSERS`. The default is ours; "official"
            is POPE's own script.
        reading: "text" generates and parses; "first-token" takes the first token where it begins a
            label, and generates where it doesn't; "labels" lets nothing else be said. See `Ask`.
        noise: Whether methods that draw noise do it once a "question", as published, or once an
            "image", so that what reads it can be shared.
        max_new_tokens: Of a generated answer; LLaVA's 128.
    """

    name: ClassVar[str] = "pope"
    metric: ClassVar[str] = "accuracy"

    path: str | Path | None = None
    images: str | Path | None = None
    dataset: str = "coco"
    splits: str = ",".join(SPLITS)
    prompt: str = "llava"
    parser: str = "ours"
    reading: str = "text"
    noise: str = "question"
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        for split in self.splits.split(","):
            one_of("splits", split, SPLITS)
        one_of("prompt", self.prompt, PROMPTS)
        one_of("parser", self.parser, PARSERS)
        one_of("reading", self.reading, READINGS)
        one_of("noise", self.noise, NOISE)
        whole("max_new_tokens", self.max_new_tokens, 1)

    @property
    def version(self) -> str:
        files = (f"{split}={version(file)}" for split, file in self._files().items())
        return f"1; {', '.join(files)}"

    def load(self) -> list[Row]:
        """Read the questions.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: No file is named, or a line is broken, without a label, or doubled.
        """
        return [row for split, file in self._files().items() for row in read_questions(file, split)]

    def ask(self, row: Row) -> Ask:
        """Put a question.

        Raises:
            ValueError: No folder of pictures is named.
        """
        if self.images is None:
            raise ValueError(
                "POPE asks about pictures, got images=None. Pass images=, the folder that holds "
                f"{row['image']}."
            )
        return Ask(
            PROMPTS[self.prompt].format(question=row["question"]),
            images=(str(Path(self.images, row["image"])),),
            choices=LABELS,
            reading=self.reading,
            draw=row["image"] if self.noise == "image" else None,
            max_new_tokens=self.max_new_tokens,
        )

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return score_yes_no(row["label"], answer, self.parser)

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return summarise_yes_no(scored, self.parser)

    def read_answers(
        self, path: str | Path, *, ignore_extra: bool = False
    ) -> list[tuple[Row, str]]:
        """Match a file of answers to the questions, see `match_answers`.

        Raises:
            OSError: A file can't be read.
            ValueError: Answers and questions don't fit; names file and line.
        """
        rows = self.load()
        said = match_answers(rows, read_records(path), ignore_extra=ignore_extra)
        return [(row, said[row["id"]]) for row in rows]

    def _files(self) -> dict[str, Path]:
        root = os.environ.get("CONTRALIGN_DATA")
        if self.path is None and not root:
            raise ValueError(
                "POPE is read from files, got path=None and no CONTRALIGN_DATA. Pass path=, a "
                "folder or a file, or set CONTRALIGN_DATA to the folder that holds pope_vcd."
            )
        path = Path(root or "", "pope_vcd") if self.path is None else Path(self.path)
        splits = self.splits.split(",")
        if path.is_dir():
            return question_files(path, self.dataset, splits)
        if not path.is_file():
            raise FileNotFoundError(f"POPE is read from a folder or a file, and {path} is none.")
        named = [split for split in SPLITS if split in path.stem]
        return {named[0] if named else path.stem: path}
