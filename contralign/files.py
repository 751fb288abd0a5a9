"""Files that runs leave: written whole, and compared with what is asked for later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
