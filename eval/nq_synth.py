"""NQ-Synth: Natural Questions whose context names an answer that the world does not.

Wang et al. 2024, "AdaCAD: Adaptively Decoding to Balance Conflicts between Contextual and
Parametric Knowledge", arXiv 2409.07394; the file is `data/nq_synth_2_-1.jsonl` of HanNight/AdaCAD
@d4519ec (MIT), 1000 pairs of prompts. Its `assigned_weight` is not read: it holds 1 and 0 where its
name says 2 and -1, and a weight is a matter of the method.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from contralign.decoding.checks import one_of, whole

from .ask import Ask, Row, Scored
from .jsonl import digest, read_jsonl
from .qa import METRICS, TRUNCATIONS, truncate
from .statistics import Estimate
from .summary import summarize

_FILE = "nq_synth/nq_synth_2_-1.jsonl"
_FIELDS = {"input_index": int, "assigned_process": int, "context_string": str, "gold_answers": str}


@dataclass(frozen=True)
class NQSynth:
    """One row a pair: the prompt with its context, and the one without as the contrast.

    All of `em`, `contains` and `f1` (see `qa`) are reported; an empty answer scores 0.

    Attributes:
        path: The JSON-lines file; None is `nq_synth/nq_synth_2_-1.jsonl` in the folder that the
            environment variable `CONTRALIGN_DATA` names.
        metric: The headline, "em", "contains" or "f1". The papers report exact match, on base
            models shown no example; "contains" is the default because a chat model answers in
            a sentence, which exact match scores 0 whatever it says.
        truncation: A name in `qa.TRUNCATIONS`. The default takes the first sentence: the papers
            leave it open, and without a cut a base model that rambles on scores 0 in exact match
            and gets credit for every name it drops in containment.
        max_new_tokens: AdaCAD's 32.
    """

    name: ClassVar[str] = "nq-synth"

    path: str | Path | None = None
    metric: str = "contains"
    truncation: str = "sentence"
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        one_of("metric", self.metric, METRICS)
        one_of("truncation", self.truncation, TRUNCATIONS)
        whole("max_new_tokens", self.max_new_tokens, 1)

    @property
    def version(self) -> str:
        return f"1-{digest(self._file())}"

    def load(self) -> list[Row]:
        """Pair the lines of the file by their `input_index`.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: No file is named, or a line is broken, blank, doubled or without its
                partner.
        """
        file = self._file()
        lines = read_jsonl(file, _FIELDS)
        pairs: dict[int, dict[int, int]] = {}
        for number, line in enumerate(lines, 1):
            pair = pairs.setdefault(line["input_index"], {})
            process = line["assigned_process"]
            if process not in (0, 1) or process in pair:
                raise ValueError(
                    f"{file}:{number}: each input_index has one line of assigned_process 0 and one "
                    f"of 1, got one more, of {process}, for input_index {line['input_index']}."
                )
            pair[process] = number
        return [_row(file, index, lines, pair) for index, pair in sorted(pairs.items())]

    def ask(self, row: Row) -> Ask:
        return Ask(row["prompt"], contrast=row["contrast"], max_new_tokens=self.max_new_tokens)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        said = truncate(answer, self.truncation)
        return {name: metric(said, row["gold"]) for name, metric in METRICS.items()}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return summarize(scored, list(dict.fromkeys((self.metric, *METRICS))))

    def _file(self) -> Path:
        root = os.environ.get("CONTRALIGN_DATA")
        if self.path is None and not root:
            raise ValueError(
                "NQ-Synth is read from a file, but none is named. Give its path (path=FILE, or "
                f"--path FILE), or set CONTRALIGN_DATA to the folder that holds {_FILE}."
            )
        file = Path(root or "", _FILE) if self.path is None else Path(self.path)
        if not file.is_file():
            raise FileNotFoundError(
                f"NQ-Synth is read from a file, got {file}, which is none. It is "
                "data/nq_synth_2_-1.jsonl of https://github.com/HanNight/AdaCAD."
            )
        return file


def _row(
    file: Path, index: int, lines: Sequence[Mapping[str, Any]], pair: Mapping[int, int]
) -> Row:
    if len(pair) < 2:
        ((process, number),) = pair.items()
        raise ValueError(
            f"{file}:{number}: each input_index has one line of assigned_process 0 and one of 1, "
            f"got only {process} for input_index {index}. Is the file complete?"
        )
    for number in pair.values():
        for name in ("context_string", "gold_answers"):
            if not lines[number - 1][name].strip():
                raise ValueError(f"{file}:{number}: {name} says something, got a blank one.")
    prompt, contrast = (lines[pair[process] - 1] for process in (0, 1))
    if prompt["gold_answers"] != contrast["gold_answers"]:
        raise ValueError(
            f"{file}:{pair[1]}: both lines of a pair have the same gold_answers, got "
            f"{prompt['gold_answers']!r} at line {pair[0]} and {contrast['gold_answers']!r} here."
        )
    return {
        "id": str(index),
        "prompt": prompt["context_string"],
        "contrast": contrast["context_string"],
        "gold": [prompt["gold_answers"]],
    }
