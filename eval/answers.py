"""Answers on disk: a line of JSON each, so that a killed run loses its running batch at most.

Reading skips a last line without an end; every other line that can't be read is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a model said to one ask, or why it said nothing.

    Attributes:
        text: The new text alone, special tokens left out; empty on an error.
        tokens: How many tokens were generated, the end of sequence included.
        error: None, or what went wrong: such a row has no answer.
        off_label: A closed ask's first token, unless held to them, would have said no choice.
        seconds: Its share of the time that its batch took.
    """

    text: str
    tokens: int
    error: str | None = None
    seconds: float = 0.0
    off_label: bool = False


@dataclass(frozen=True)
class Record:
    """An answer with the key of all that it depends on, and the first row that asked for it."""

    key: str
    id: str
    answer: Answer

    def line(self) -> str:
        """Write the record as a line of JSON; an error has no text."""
        answer = self.answer
        said = {"text": answer.text, "tokens": answer.tokens}
        said |= {"off_label": True} if answer.off_label else {}
        outcome = said if answer.error is None else {"error": answer.error}
        fields = {"key": self.key, "id": self.id, **outcome, "seconds": round(answer.seconds, 6)}
        return json.dumps(fields, ensure_ascii=False)


def answer_files(folder: Path) -> dict[str, list[Path]]:
    """Find the answers in a run's folder.

    Returns:
        Name of a decoding's file -> its file of one process, then those of several.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((folder / "answers").glob("*.jsonl")):
        found.setdefault(re.sub(r"\.rank\d+$", "", path.stem), []).append(path)
    return found


def read_answers(paths: Iterable[Path]) -> dict[str, Answer]:
    """Read answers by key; a later line replaces an earlier one, but an error no answer.

    Raises:
        ValueError: A line is broken; names file and line.
    """
    answers: dict[str, Answer] = {}
    for path in paths:
        whole, _, _half = path.read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
            key, answer = _parsed(line, f"{path}:{number}")
            if answer.error is None or key not in answers:
                answers[key] = answer
    return answers


def _parsed(line: bytes, where: str) -> tuple[str, Answer]:
    try:
        fields = json.loads(line)
        if "error" in fields:
            answer = Answer("", 0, str(fields["error"]), float(fields["seconds"]))
        else:
            answer = Answer(
                fields["text"],
                int(fields["tokens"]),
                seconds=float(fields["seconds"]),
                off_label=bool(fields.get("off_label")),
            )
        if not isinstance(answer.text, str):
            raise TypeError(f"text is {answer.text!r:.40}")
        return str(fields["key"]), answer
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{where} is no answer record ({type(error).__name__}: {error}). Restore the file, or "
            "delete that line to have its answer computed again."
        ) from error
