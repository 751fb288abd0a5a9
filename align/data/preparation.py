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
from .formats import IMAGES, excerpt
from .needs import PAIRS, Needs, Sizes
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
    needs: Needs = PAIRS,
    tokens: bool = True,
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
        needs: What the training method reads.
        tokens: Whether rows become tokens; else they are checked and stay as they are.

    Returns:
        Rows with `prompt_ids`, `completion_ids` (chosen, rejected; or a group's) and, where the
        data has them, the numbers that are read; rows with images stay as they are, as their pixels
        would fill the disk (a stream's are encoded too), and so do prompts whose completions are
        sampled. And the report; a stream's grows as it's read, in the process that reads it.

    Raises:
        ValueError: Rows can't be trained on, no row is left, or the processor isn't one for them.
    """
    if on_problem not in POLICIES:
        raise ValueError(f"on_problem is one of {', '.join(POLICIES)}, got {on_problem!r}.")
    if isinstance(dataset, IterableDataset):
        if needs.completions == "none":
            raise ValueError(
                f"prompts to sample for are read from a file or a list, but {name} is "
                "a stream. Read it without streaming."
            )
        stream = _Stream(_columns(dataset), on_problem, name, needs)
        rows = _streamed(dataset, stream, processor=processor, max_length=max_length)
        return rows, stream.report
    if not len(dataset):
        raise ValueError(f"{name} has no row. Check its split.")
    numbers = _numbers(needs, dataset.column_names)
    examined = undecoded(dataset).map(
        _examined,
        fn_kwargs={
            "processor": processor,
            "max_length": max_length,
            "needs": needs,
            "numbers": numbers,
            "code": _code(),
        },
        remove_columns=dataset.column_names,
        features=Features({**_TOKENS, **{n: _feature(n) for n in numbers}, **_VERDICT}),
        num_proc=num_proc,
        desc=f"Checking {name}",
    )
    report, usable = _reported(examined)
    _decide(report, usable, on_problem, name)
    stay = not tokens or needs.completions == "none"
    stay = stay or any(column in dataset.column_names for column in IMAGES)
    rows = dataset if stay else examined.remove_columns(list(_VERDICT))
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
    needs: Needs,
    numbers: Sequence[str],
    code: str,
) -> dict[str, Any]:
    examined = examine(row, processor, max_length, needs)
    return {
        **_ids(examined),
        **{name: examined.numbers.get(name) for name in numbers},
        "problems": [name for name, _ in examined.problems],
        "found": [found for _, found in examined.problems],
        "excerpt": excerpt(row),
        "usable": examined.usable,
    }


def _ids(examined: Examined) -> dict[str, Any]:
    encoded = examined.encoded
    return {
        "prompt_ids": encoded.prompt if encoded else [],
        "completion_ids": encoded.completions if encoded else [],
    }


def _numbers(needs: Needs, columns: Sequence[str]) -> list[str]:
    """Names of the numbers that prepared rows have."""
    found = [column for column in needs.numbers if column in columns]
    return [*found, "scores"] if needs.scores else found


def _feature(number: str) -> Any:
    return List(Value("float64")) if number == "scores" else Value("float64")


def _reported(examined: Dataset) -> tuple[Report, list[int]]:
    """What was found, and which rows can be trained on."""
    report, sizes, usable = Report(), Sizes(), []
    for index, row in enumerate(examined.remove_columns("prompt_ids")):
        problems = list(zip(row["problems"], row["found"], strict=True))
        odd = sizes(len(row["completion_ids"])) if row["usable"] else []
        report.add(index, problems + odd, row["excerpt"])
        if row["usable"] and not odd:
            usable.append(index)
    return report, usable


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
        "on_problem: drop. `contralign data check --method ...` explains each (what was split off "
        "is numbered anew)."
    )


def _beginning(report: Report) -> str:
    """What is wrong with the first bad row, and how it begins: rows may have been shuffled."""
    example = next(f for f in report.ordered if f.problem.severity == "error").first[0]
    return f"row {example.row} begins {example.excerpt!r}: {example.found}"


class _Stream:
    """Encodes the rows of a stream, and says so whenever twice as many have been dropped."""

    def __init__(
        self, columns: Sequence[str], on_problem: str, name: str, needs: Needs = PAIRS
    ) -> None:
        self.columns = columns
        self.on_problem = on_problem
        self.name = name
        self.needs = needs
        self.report, self.sizes = Report(), Sizes()

    def __call__(
        self, row: Mapping[str, Any], index: int, processor: Processor, max_length: int | None
    ) -> dict[str, Any]:
        row = {**dict.fromkeys(self.columns), **row}
        examined = self._with_known_numbers(examine(row, processor, max_length, self.needs))
        if examined.usable and (odd := self.sizes(examined.size)):
            examined = Examined(odd)
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
        """Numbers of the stream's first row, and so of all rows."""
        return _numbers(self.needs, self.columns)

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
