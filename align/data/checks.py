"""Every row of the data, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasets import Dataset, Image, IterableDataset, List
from tqdm import tqdm

from .encode import Encoded, encode
from .formats import excerpt, normalise
from .groups import SIDES, answers
from .images import open_image
from .needs import PAIRS, Needs, Sizes
from .problems import PROBLEMS, RowError
from .report import Report
from .tokens import Processor


@dataclass(frozen=True)
class Examined:
    """What came of a row.

    Attributes:
        problems: Names of problems, and what was found.
        encoded: Its tokens; None if it's unusable, or there was nothing to tokenise it with.
        numbers: Its weight and other numbers that are read, and a list of scores.
        size: Its completions.
    """

    problems: list[tuple[str, str]]
    encoded: Encoded | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0

    @property
    def usable(self) -> bool:
        """Whether it can be trained on."""
        return all(PROBLEMS[name].severity == "warning" for name, _ in self.problems)


def examine(
    row: Mapping[str, Any],
    processor: Processor | None = None,
    max_length: int | None = None,
    needs: Needs = PAIRS,
) -> Examined:
    """Check a row and tokenise it; a group that has scores comes best first.

    Args:
        row: In any of the known formats.
        processor: The model's tokenizer or processor; None checks what needs none.
        max_length: Tokens of prompt and completion; None is no limit.
        needs: What the training method reads.

    Raises:
        ValueError: The processor isn't one for such rows.
    """
    try:
        normal = normalise(row, needs)
        numbers = {name: normal[name] for name in (*needs.numbers, "scores") if name in normal}
        size = len(answers(normal))
        if processor is None:
            for image in normal.get("images", []):
                open_image(image)
            return Examined([], None, numbers, size)
        encoded = encode(normal, processor, max_length, needs.room)
    except RowError as error:
        return Examined([(error.problem, error.found)])
    if "scores" in numbers and not {*SIDES} & normal.keys():
        encoded, numbers["scores"] = _best_first(encoded, numbers["scores"])
    if not needs.scores:
        numbers.pop("scores", None)
    return Examined(encoded.warnings, encoded, numbers, size)


def _best_first(encoded: Encoded, scores: Sequence[float]) -> tuple[Encoded, list[float]]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    completions = [encoded.completions[i] for i in order]
    return replace(encoded, completions=completions), [scores[i] for i in order]


def check(
    rows: Iterable[Mapping[str, Any]],
    processor: Processor | None = None,
    max_length: int | None = None,
    needs: Needs = PAIRS,
) -> Report:
    """Check rows; on a terminal, a progress bar shows when it takes more than two seconds.

    Args:
        rows: A dataset, a stream or a list, in any of the known formats.
        processor: The model's tokenizer or processor; None checks what needs none.
        max_length: Tokens of prompt and completion; None is no limit.
        needs: What the training method reads.

    Returns:
        Each problem with its count and first rows.

    Raises:
        ValueError: The processor isn't one for such rows.
    """
    report, sizes = Report(tokens=processor is not None), Sizes()
    bar: dict[str, Any] = {
        "desc": "Checking",
        "unit": "row",
        "delay": 2,
        "leave": False,
        "disable": None,
    }
    for index, row in enumerate(tqdm(undecoded(rows), **bar)):
        examined = examine(row, processor, max_length, needs)
        problems = examined.problems + (sizes(examined.size) if examined.usable else [])
        report.add(index, problems, excerpt(row) if problems else "")
    return report


def undecoded(rows: Any) -> Any:
    """Leave images as files, so that a broken one is found by us and can be named."""
    if isinstance(rows, Dataset | IterableDataset):
        for name, feature in (rows.features or {}).items():
            if isinstance(feature, Image):
                rows = rows.cast_column(name, Image(decode=False))
            elif isinstance(feature, List) and isinstance(feature.feature, Image):
                rows = rows.cast_column(name, List(Image(decode=False)))
    return rows
