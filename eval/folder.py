"""The folder of a run: it belongs to one set of settings, and its files are whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SETTINGS = "run.json"


def check_folder(output: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something else than an earlier start of the same run.

    Args:
        output: The folder; it need not exist.
        settings: JSON values that every answer depends on.

    Raises:
        ValueError: Names the settings that differ, or the files that are in the way.
    """
    path = output / SETTINGS
    if path.exists():
        differing = list(_differences(_read(path), dict(settings)))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}. Repeat those "
                "settings to resume it, or choose another output folder."
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} is in use but holds no {SETTINGS}, so it is no run to resume. Choose a new "
            "or empty output folder."
        )


def write_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Write down what the folder belongs to."""
    output.mkdir(parents=True, exist_ok=True)
    replace_text(output / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader, or a kill, finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} can't be read ({error}). Restore it, or choose another output folder."
        ) from error
    return dict(settings)


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}" if name else key
            yield from _differences(there.get(key), here.get(key), inner)
    elif there != here:
        yield f"{name} was {there!r}, is {here!r}"
