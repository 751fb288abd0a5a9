"""Objects in a file that is JSON lines whatever its ending says, or one JSON array."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contralign.files import read_text

Record = tuple[str, Mapping[str, Any]]
"""Where an object stands, for complaints, and the object."""


def read_records(path: str | Path) -> list[Record]:
    """Read the objects of a file: one a line, or all in an array.

    Args:
        path: UTF-8 text; empty lines, and the line ends of Windows, are taken as they come.

    Raises:
        OSError: The file can't be read.
        ValueError: It holds something else, or nothing; names the file and the line.
    """
    path = Path(path)
    text = read_text(path)
    if text.lstrip().startswith("["):
        values = _parsed(text, str(path))
        places = [f"{path}, element {number}" for number in range(1, len(values) + 1)]
    else:
        lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        places = [f"{path}:{number}" for number, _ in lines]
        values = [_parsed(line, place) for place, (_, line) in zip(places, lines, strict=True)]
    if not values:
        raise ValueError(f"{path} holds no object. Is it the right file, and complete?")
    for place, value in zip(places, values, strict=True):
        if not isinstance(value, dict):
            raise ValueError(f"{place}: expected a JSON object, got a {type(value).__name__}.")
    return list(zip(places, values, strict=True))


def field(record: Record, names: tuple[str, ...], kind: type | tuple[type, ...] = str) -> Any:
    """Take the first of several fields that a record has.

    Raises:
        ValueError: It has none of them, or of another type; names the place.
    """
    place, value = record
    name = next((name for name in names if name in value), None)
    wanted = " or ".join(map(repr, names))
    if name is None:
        raise ValueError(f"{place}: needs a field {wanted}, got {', '.join(value) or 'none'}.")
    if not isinstance(value[name], kind) or isinstance(value[name], bool):
        raise ValueError(f"{place}: the field {name!r} has a bad value, {value[name]!r:.80}.")
    return value[name]


def image_number(value: object, place: str) -> int:
    """Read a COCO image's number: itself, or the last digits of a file name such as COCO's.

    Raises:
        ValueError: There is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.search(r"(\d+)(?:\.\w+)?$", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{place}: an image is a number or a file name that ends in one, got {value!r}."
        )
    return int(found[1])


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{place}: broken JSON, {error}. Files are JSON lines, one object a line, or one "
            "JSON array."
        ) from error
