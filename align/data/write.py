"""Rows of data written to a file that training reads, their pictures beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .formats import IMAGES


def write_rows(output: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines: the file is whole, and on the disk, or not there."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                written = {name: _written(name, row[name], output) for name in row}
                file.write(json.dumps(written, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def _written(name: str, value: Any, output: Path) -> Any:
    return _located(value, output) if name in IMAGES else value


def _located(value: Any, output: Path) -> Any:
    """A picture's place: a file of its own, if it has none, in a folder beside the output."""
    if isinstance(value, list):
        return [_located(one, output) for one in value]
    if isinstance(value, Mapping):
        held = value.get("bytes")
        value = value.get("path") if held is None else _saved(held, output)
        return value if held is not None else _located(value, output)
    if isinstance(value, str) and "://" not in value:
        return str(Path(value).absolute())
    return value


def _saved(held: bytes, output: Path) -> str:
    folder = output.with_name(f"{output.stem}-images")
    folder.mkdir(exist_ok=True)
    file = folder / blake2b(held, digest_size=16).hexdigest()
    if not file.exists():
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_bytes(held)
        os.replace(temporary, file)
    return str(file.relative_to(output.parent))
