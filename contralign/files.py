"""Files that runs leave: written whole or line by line, and compared with what is asked later."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text; a byte order mark is left out.

    Raises:
        OSError: It can't be read.
        ValueError: It's no such text; names the file.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}. Save it as UTF-8.") from error


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader, or a kill, finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Name what differs between two trees of JSON values: `model.dtype was 'a', is 'b'`.

    Args:
        there: As it was.
        here: As it is; a key that one of them lacks is None.
        name: Of the values.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}" if name else key
            yield from differences(there.get(key), here.get(key), inner)
    elif there != here:
        yield f"{name} was {there!r}, is {here!r}"


@runtime_checkable
class Line(Protocol):
    """What knows how to stand in a file of JSON lines."""

    def line(self) -> str: ...


class LineFile:
    """Appends lines to a file; each `append` is on the disk when it returns.

    A line without an end is what a kill leaves behind: it is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> LineFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab+")
        _cut_half_line(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, records: Iterable[Line]) -> None:
        self._file.write("".join(f"{record.line()}\n" for record in records).encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _cut_half_line(file: Any) -> None:
    file.seek(0)
    kept = file.read().rfind(b"\n") + 1
    file.truncate(kept)
