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
from contralign.align.data.formats import IMAGES

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


def write_rows(output: Path, rows: Iterable[Row]) -> None:
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


def _hexadecimal(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
