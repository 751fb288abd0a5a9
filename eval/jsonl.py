"""JSON-lines files, one object a line; every complaint names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any


def read_jsonl(path: Path | Traversable, fields: Mapping[str, type]) -> list[dict[str, Any]]:
    """Read a file whose every line is an object with at least the given fields.

    Args:
        path: UTF-8 text. An empty line is an error, so that row `i` is line `i + 1`.
        fields: Name -> the exact Python type of its JSON value; other fields are kept unchecked.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is no object or lacks a field, the message then begins with `FILE:LINE`;
            or there is none.
    """
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path} is empty. Is it the right file, and complete?")
    lines = content.removesuffix(b"\n").split(b"\n")
    return [_row(f"{path}:{number}", line, fields) for number, line in enumerate(lines, 1)]


def digest(path: Path | Traversable) -> str:
    """The first 12 hexadecimal digits of a file's SHA-256, for versions.

    Raises:
        OSError: The file cannot be read.
    """
    return sha256(path.read_bytes()).hexdigest()[:12]


def _row(where: str, line: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    if not line.strip():
        raise ValueError(
            f"{where}: a line holds one JSON object, but this one is blank. Remove it."
        )
    try:
        row = json.loads(line.decode())
    except ValueError as error:
        raise ValueError(
            f"{where}: a line holds one JSON object, but this one is broken: {error}. "
            "Repair or remove it."
        ) from error
    if not isinstance(row, dict):
        raise ValueError(
            f"{where}: a line holds one JSON object, got a {type(row).__name__}. Write a JSON "
            "array as one object a line."
        )
    for name, kind in fields.items():
        if type(row.get(name)) is not kind:
            found = f"{row[name]!r}" if name in row else f"only {', '.join(row) or 'nothing'}"
            raise ValueError(
                f"{where}: every object has a field {name!r} of type {kind.__name__}, got {found}."
            )
    return row
