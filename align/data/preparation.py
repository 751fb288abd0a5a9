"""Data as the trainer takes it: checked, tokenised, without rows that can't be trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, List, Value

from .checks import Examined, examine, undecoded
from .formats import IMAGES, NUMBERS, excerpt
from .report import Report
from .tokens import Processor

logger = logging.getLogger(__name__)

POLICIES = ("error", "drop")

_TOKENS = {"prompt_ids": List(Value("int64")), "completion_ids": List(List(Value("int64")))}
_VERDICT = {
    "problems": List(Value("string")),
    "found": List(Value("string")),
    "excerpt": Value("string"),
    "usable": Value("bool"),
}


def prepare(
    dataset: Dataset | IterableDataset,
    processor: Processor,
    max_length: int | None,
    on_problem: str = "error",
    *,
    name: str = "the data",
    num_proc: int | None = None,
) -> tuple[Dataset | IterableDataset, Report]:
    """Check a dataset and tokenise it; needs no model.

    Args:
        dataset: In any of the known formats. A stream is checked as it's read.
        processor: The model's tokenizer, or its processor for rows with images.
        max_length: Tokens of prompt and completion; None is no limit.
        on_problem: What becomes of rows that can't be trained on: an error that names them, or
            they are dropped, which is logged.
        name: What complaints call the data.
        num_proc: Processes to share the work; a stream is read by the data loader's.

    Returns:
        Rows with `prompt_ids`, `completion_ids` (chosen, rejected) and, where the data has them,
        `weight` and `margin`; rows with images stay as they are, as their pixels would fill the
        disk (a stream's are encoded too). And the report; a stream's grows as it's read, in the
        process that reads it.

    Raises:
        ValueError: Rows can't be trained on, no row is left, or the processor isn't one for them.
    """
    if on_problem not in POLICIES:
        raise ValueError(f"on_problem is one of {', '.join(POLICIES)}, got {on_problem!r}.")
    if isinstance(dataset, IterableDataset):
        stream = _Stream(_columns(dataset), on_problem, name)
        rows = _streamed(dataset, stream, processor=processor, max_length=max_length)
        return rows, stream.report
    if not len(dataset):
        raise ValueError(f"{name} has no row. Check its split.")
    numbers = [column for column in NUMBERS if column in dataset.column_names]
    examined = undecoded(dataset).map(
        _examined,
        fn_kwargs={
            "processor": processor,
            "max_length": max_length,
            "numbers": numbers,
            "code": _code(),
        },
        remove_columns=dataset.column_names,
        features=Features({**_TOKENS, **{n: Value("float64") for n in numbers}, **_VERDICT}),
        num_proc=num_proc,
        desc=f"Checking {name}",
    )
    report = _reported(examined)
    usable = [index for index, good in enumerate(examined["usable"]) if good]
    _decide(report, usable, on_problem, name)
    sees = any(column in dataset.column_names for column in IMAGES)
    rows = dataset if sees else examined.remove_columns(list(_VERDICT))
    return (rows.select(usable) if report.dropped else rows), report


@cache
def _code() -> str:
    """Names the code that examines rows: `datasets` would reuse what older code made of them."""
    digest = sha256("".join(map(version, ("transformers", "tokenizers", "trl"))).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _examined(
    row: Mapping[str, Any],
    processor: Processor,
    max_length: int | None,
    numbers: Sequence[str],
    code: str,
) -> dict[str, Any]:
    examined = examine(row, processor, max_length)
    return {
        **_ids(examined),
        **{name: examined.numbers.get(name) for name in numbers},
        "problems": [name for name, _ in examined.problems],
        "found": [found for _, found in examined.problems],
        "excerpt": excerpt(row) if examined.problems else "",
        "usable": examined.usable,
    }


def _ids(examined: Examined) -> dict[str, Any]:
    encoded = examined.encoded
    return {
        "prompt_ids": encoded.prompt if encoded else [],
        "completion_ids": encoded.completions if encoded else [],
    }


def _reported(examined: Dataset) -> Report:
    report = Report()
    verdicts = examined.select_columns(["problems", "found", "excerpt"])
    for index, row in enumerate(verdicts):
        problems = list(zip(row["problems"], row["found"], strict=True))
        report.add(index, problems, row["excerpt"])
    return report


def _decide(report: Report, usable: Sequence[int], on_problem: str, name: str) -> None:
    if report.unusable and on_problem == "error":
        raise ValueError(_refusal(report, name))
    if not usable:
        raise ValueError(f"{name} has no row to train on, of {report.rows}: {report.summary()}.")
    report.dropped = report.unusable
    if report.dropped:
        logger.warning(
            "%s: dropped %d of %d rows: %s", name, report.dropped, report.rows, report.summary()
        )
    if report.flagged:
        logger.warning("%s: %s", name, report.summary("warning"))


def _refusal(report: Report, name: str) -> str:
    return (
        f"{report.unusable} of the {report.rows} rows of {name} can't be trained on: "
        f"{report.summary()}; {_beginning(report)}. Repair them, or leave them out with "
        "on_problem: drop. `contralign data check` explains each (what was split off is numbered "
        "anew)."
    )


def _beginning(report: Report) -> str:
    """How the first bad row begins, to find it by where rows were shuffled."""
    example = next(f for f in report.ordered if f.problem.severity == "error").first[0]
    return f"row {example.row} begins {example.excerpt!r}"


class _Stream:
    """Encodes the rows of a stream, and says so whenever twice as many have been dropped."""

    def __init__(self, columns: Sequence[str], on_problem: str, name: str) -> None:
        self.columns = columns
        self.on_problem = on_problem
        self.name = name
        self.report = Report()

    def __call__(
        self, row: Mapping[str, Any], index: int, processor: Processor, max_length: int | None
    ) -> dict[str, Any]:
        row = {**dict.fromkeys(self.columns), **row}
        examined = self._with_known_numbers(examine(row, processor, max_length))
        self.report.add(index, examined.problems, excerpt(row))
        if not examined.usable:
            self._refuse_or_drop()
        images = examined.encoded.images if examined.encoded else {}
        return {
            **_ids(examined),
            **dict.fromkeys(self.numbers),
            **examined.numbers,
            "images": images,
            "usable": examined.usable,
        }

    @property
    def numbers(self) -> list[str]:
        """Columns of numbers in the stream's first row, and so in all rows."""
        return [column for column in NUMBERS if column in self.columns]

    def _with_known_numbers(self, examined: Examined) -> Examined:
        for name in set(examined.numbers) - set(self.numbers):
            return Examined([("bad-number", f"there is a {name}, but not in the first row")])
        return examined

    def _refuse_or_drop(self) -> None:
        report = self.report
        if self.on_problem == "error":
            raise ValueError(_refusal(report, self.name))
        report.dropped += 1
        if report.dropped & (report.dropped - 1) == 0:
            logger.warning(
                "%s: dropped %d of %d rows so far: %s",
                self.name,
                report.dropped,
                report.rows,
                report.summary(),
            )


def _streamed(dataset: IterableDataset, stream: _Stream, **options: Any) -> IterableDataset:
    encoded = undecoded(dataset).map(stream, with_indices=True, fn_kwargs=options)
    sees = any(column in stream.columns for column in IMAGES)
    names = [*_TOKENS, *stream.numbers, *(["images"] if sees else [])]
    return encoded.filter(_is_usable).select_columns(names)


def _columns(dataset: IterableDataset) -> list[str]:
    return list(dataset.column_names or next(iter(dataset), {}))


def _is_usable(row: Mapping[str, Any]) -> bool:
    return row["usable"]
