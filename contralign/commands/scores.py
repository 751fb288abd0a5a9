"""The scores of a reward, kept as they come, so that a killed command goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contralign.align.data import Report, RowError
from contralign.align.data.formats import excerpt
from contralign.align.rewards import ModelReward, Question, Reward, RewardError, question
from contralign.align.rewards.questions import ask, flattened, named_rows
from contralign.eval.answers import AnswerFile
from contralign.eval.folder import check_folder, write_settings

SCORES = "scores.jsonl"
ROWS = 32  # between two times that scores are written


@dataclass(frozen=True)
class Scored:
    """The scores of one row's completions."""

    row: int
    scores: Sequence[float]

    def line(self) -> str:
        """Write it as a line of JSON."""
        return json.dumps({"row": self.row, "scores": list(self.scores)})


def questions_of(rows: Sequence[Mapping[str, Any]]) -> list[Question]:
    """Read all rows.

    Raises:
        ValueError: Some can't be scored; names the first ones of each problem.
    """
    report, found = Report(), []
    for index, row in enumerate(rows):
        try:
            found.append(question(row))
        except RowError as error:
            report.add(index, [(error.problem, error.found)], excerpt(row))
    if report.unusable:
        first = report.ordered[0].first[0]
        raise ValueError(
            f"{report.unusable} of {len(rows)} rows can't be scored: {report.summary()}. Row "
            f"{first.row}: {first.found}. Repair them, or leave them out."
        )
    return found


def check_lengths(questions: Sequence[Question], reward: Reward) -> None:
    """Refuse what a reward model can't read, before its weights are loaded.

    Raises:
        ValueError: Names the row.
    """
    if not isinstance(reward, ModelReward) or reward.on_long != "error":
        return
    for part in _parts(range(len(questions))):
        flat = flattened([questions[i] for i in part], reward)
        with _named(part), named_rows(flat):
            reward.encode(flat.prompts, flat.completions, **flat.columns)


def scores_of(
    questions: Sequence[Question], reward: Reward, folder: Path, settings: Mapping[str, Any]
) -> list[Sequence[float]]:
    """Ask a reward about all rows, or those that it wasn't asked about yet.

    Args:
        questions: One a row.
        reward: Who judges.
        folder: Where scores are kept: new, or of an earlier start with the same settings.
        settings: JSON values that every score depends on.

    Raises:
        ValueError: The folder holds other scores, or a row has none; names the row.
    """
    check_folder(folder, settings)
    write_settings(folder, settings)
    file = folder / SCORES
    found = _stored(file)
    missing = [index for index in range(len(questions)) if index not in found]
    bar = tqdm(desc="Scoring", unit="row", total=len(missing), delay=2, leave=False, disable=None)
    with AnswerFile(file) as kept, bar:
        for part in _parts(missing):
            with _named(part):
                new = ask(reward, [questions[index] for index in part])
            kept.append(Scored(*one) for one in zip(part, new, strict=True))
            found.update(zip(part, new, strict=True))
            bar.update(len(part))
    return [found[index] for index in range(len(questions))]


def _parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    return (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))


@contextmanager
def _named(rows: Sequence[int]) -> Iterator[None]:
    """Name the row of the data that has no reward."""
    try:
        yield
    except RewardError as error:
        raise ValueError(f"row {rows[error.index]} (the first is row 0): {error.found}") from error


def _stored(file: Path) -> dict[int, Sequence[float]]:
    whole, _, _half = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["row"]: line["scores"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is broken ({type(error).__name__}: {error}). Delete its folder to start anew."
        ) from error
