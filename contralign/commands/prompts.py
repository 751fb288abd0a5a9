"""Prompts of a data file as a benchmark, so that they're answered as any benchmark is.

An ask is text: the one user turn of a row. What it's held against comes of a column: the prompt
without its context, or another prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from contralign.align.data import RowError
from contralign.align.data.formats import IMAGES
from contralign.align.data.messages import PLACEHOLDER, flat, read_side, text_of
from contralign.decoding import Decoding, ImageError, Pictured, open_image
from contralign.eval import Ask, Estimate, Row, Scored

from .options import needs_contrast
from .rows_file import digest, read_rows


@dataclass(frozen=True)
class Prompts:
    """What `eval.run` asks.

    Attributes:
        path: File, folder or hub id.
        split: Of it.
        config: Configuration of a data set on the hub.
        limit: The first rows only.
        samples: Answers to each prompt, each with noise of its own.
        context_column: What stands before each prompt, and not in what it's held against.
        contrast_column: Prompts to hold the prompts against.
        max_new_tokens: Of an answer.
    """

    name: ClassVar[str] = "prompts"
    metric: ClassVar[str] = "characters"

    path: str
    split: str = "train"
    config: str | None = None
    limit: int | None = None
    samples: int = 1
    context_column: str | None = None
    contrast_column: str | None = None
    max_new_tokens: int = 256

    @cached_property
    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of the data."""
        return read_rows(self.path, self.split, self.config)[: self.limit]

    @cached_property
    def version(self) -> str:
        """A digest of the rows."""
        return digest(self.rows)

    def load(self) -> list[Row]:
        return [
            {"id": item(row, sample), "row": row}
            for row in range(len(self.rows))
            for sample in range(self.samples)
        ]

    def ask(self, row: Row) -> Ask:
        return self._asks[row["row"]]

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return {"characters": float(len(answer))}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return {}

    @cached_property
    def _asks(self) -> list[Ask]:
        """One a row: its samples share its pictures."""
        return [
            Ask(
                *self.prompts(number),
                tuple(map(_picture, self.images(number))),
                max_new_tokens=self.max_new_tokens,
            )
            for number in range(len(self.rows))
        ]

    def prompts(self, number: int) -> tuple[str, str | None]:
        """What a row asks, and what that is held against.

        Raises:
            ValueError: It asks nothing, or more than one turn; names the row.
        """
        row, where = self.rows[number], f"row {number} (the first is row 0) of {self.path}"
        prompt = _user_turn(row, where)
        if self.contrast_column is not None:
            return prompt, _text(row, self.contrast_column, where)
        if self.context_column is not None:
            return f"{_text(row, self.context_column, where)}\n\n{prompt}", prompt
        return prompt, None

    def images(self, number: int) -> list[Any]:
        """The pictures of a row, as the data has them."""
        row = self.rows[number]
        found: Any = next((row[name] for name in IMAGES if row.get(name) is not None), [])
        return list(found) if isinstance(found, list | tuple) else [found]

    def check(self, decodings: Sequence[Decoding]) -> None:
        """Refuse, before a model is loaded, rows that can't be asked in one of these ways.

        Raises:
            ValueError: With the row or the option, and the way out.
        """
        if not self.rows:
            raise ValueError(f"{self.path} has no row. Check its split.")
        if self.context_column is not None and self.contrast_column is not None:
            raise ValueError("a contrast comes of --context-column or --contrast-column, got both.")
        given = (self.context_column, self.contrast_column) != (None, None)
        for decoding in decodings:
            if needs_contrast(decoding) and not given:
                raise ValueError(
                    f"{decoding.label} holds the prompt against the same without its context. Name "
                    "--context-column or --contrast-column."
                )
        pictured = [one.label for one in decodings if isinstance(one.method, Pictured)]
        for number in range(len(self.rows)):
            self.prompts(number)
            if pictured and not self.images(number):
                raise ValueError(f"{pictured[0]} needs pictures, but row {number} has none.")
            self._check_pictures(number)

    def _check_pictures(self, number: int) -> None:
        for image in self.images(number):
            try:
                open_image(image)
            except ImageError as error:
                raise ValueError(f"row {number} (the first is row 0): {error}") from error


def item(row: int, sample: int) -> str:
    """The id of one answer, to which its noise belongs."""
    return f"{row}#{sample}"


def _user_turn(row: Mapping[str, Any], where: str) -> str:
    """The text of a prompt, whose pictures stand in front of it."""
    try:
        prompt = read_side(row.get("prompt"), "prompt")
    except RowError as error:
        raise ValueError(f"{where}: {error}") from error
    if isinstance(prompt, list):
        roles = [message["role"] for message in prompt]
        if roles != ["user"]:
            raise ValueError(
                f"{where}: a prompt is text or one user turn, got the turns {', '.join(roles)}. "
                "What all prompts have in a system turn goes into --system."
            )
        prompt = text_of(flat(prompt[0]))
    while prompt.lstrip().startswith(PLACEHOLDER):
        prompt = prompt.lstrip().removeprefix(PLACEHOLDER).lstrip()
    if PLACEHOLDER in prompt or not prompt.strip():
        found = f"{PLACEHOLDER} inside of it" if prompt.strip() else "no text"
        raise ValueError(f"{where}: pictures stand in front of the prompt's text, got {found}.")
    return prompt


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: the column {column} is text, got {value!r:.40}.")
    return value.strip()


def _picture(value: Any) -> Any:
    """A path, which digests know, or the picture itself."""
    if isinstance(value, Mapping) and not value.get("bytes"):
        return value.get("path")
    return value if isinstance(value, str) else open_image(value)
