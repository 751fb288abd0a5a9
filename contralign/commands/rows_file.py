"""Rows of data on their way through a command: read, recognised again, written at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from contralign.align.data import load
from contralign.align.data.checks import undecoded

Row = Mapping[str, Any]


def read_rows(path: str, split: str, name: str | None = None) -> list[Row]:
    """Read all rows of some data, their pictures as files or bytes.

    Raises:
        OSError: It can't be read.
        ValueError: There is no such data, or it's broken.
    """
    return list(undecoded(load(path, name=name, split=split)))


def columns(rows: Sequence[Row]) -> list[str]:
    """The columns that any row has."""
    return list(dict.fromkeys(name for row in rows for name in row))


def digest(values: Iterable[Any]) -> str:
    """Digest values of JSON, and bytes among them."""
    found = blake2b(digest_size=16)
    for value in values:
        found.update(json.dumps(value, sort_keys=True, default=_hexadecimal).encode() + b"\n")
    return found.hexdigest()


def check_output(output: Path) -> None:
    """Refuse an output that is there already, or can't be.

    Raises:
        ValueError: With the way out.
    """
    if output.exists():
        raise ValueError(f"--output {output} is there already. Choose another file.")
    place = next(folder for folder in output.absolute().parents if folder.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)) or output.suffix != ".jsonl":
        raise ValueError(
            f"--output is a file that ends in .jsonl, in a folder to write to, got {output}."
        )


def work_folder(output: Path) -> Path:
    """Where a command keeps what it has done so far."""
    return output.with_name(f"{output.name}.run")


def _hexadecimal(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
