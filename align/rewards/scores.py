"""The scores of a reward, kept as they come, so that a killed command goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contralign.files import LineFile
from contralign.folder import check_folder, occupied, write_settings

from ..data.formats import excerpt
from ..data.problems import RowError
from ..data.report import Report
from .model import ModelReward
from .questions import Question, asked, flattened, in_parts, named_data, named_rows, question
from .reward import Reward

SCORES = "scores.jsonl"


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
    for part in in_parts(range(len(questions))):
        flat = flattened([questions[i] for i in part], reward)
        with named_data(part), named_rows(flat):
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
        ValueError: The folder holds other scores, another process is at work there, or a row has
            no score; names the row.
    """
    check_folder(folder, settings)
    with occupied(folder):
        write_settings(folder, settings)
        found = _stored(folder / SCORES)
        missing = [index for index in range(len(questions)) if index not in found]
        bar = tqdm(
            desc="Scoring", unit="row", total=len(missing), delay=2, leave=False, disable=None
        )
        with LineFile(folder / SCORES) as kept, bar:
            for part in in_parts(missing):
                new = dict(asked(reward, [questions[index] for index in part], part))
                kept.append(Scored(*one) for one in new.items())
                found.update(new)
                bar.update(len(part))
    return [found[index] for index in range(len(questions))]


def _stored(file: Path) -> dict[int, Sequence[float]]:
    whole, _, _half = (file.read_bytes() if file.exists() else b"").rpartition(b"\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["row"]: line["scores"] for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is broken ({type(error).__name__}: {error}). Delete its folder to start anew."
        ) from error
