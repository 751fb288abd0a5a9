"""The folder of a run: it belongs to one set of settings, and its files are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from contralign.files import differences, replace_text

SETTINGS = "run.json"
LOCK = "run.lock"


def check_folder(
    output: Path,
    settings: Mapping[str, Any],
    compared: Callable[[dict[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Refuse a folder that holds something else than an earlier start of the same run.

    Args:
        output: The folder; it need not exist.
        settings: JSON values that every answer depends on.
        compared: What of them is, and by what names; default: all.

    Raises:
        ValueError: Names the settings that differ, or the files that are in the way.
    """
    path = output / SETTINGS
    if path.exists():
        there, here = compared(_read(path)), compared(dict(settings))
        differing = list(differences(dict(there), dict(here)))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}. Repeat those "
                "settings to resume it, or choose another output folder."
            )
    elif output.exists() and not _is_empty(output):
        raise ValueError(
            f"{output} is in use but holds no {SETTINGS}, so it is no run to resume. Choose a new "
            "or empty output folder."
        )


@contextmanager
def occupied(output: Path) -> Iterator[None]:
    """Keep a second run out of a folder, which a kill frees.

    Raises:
        ValueError: One is running there.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"another run is going on in {output}. Wait for its end, or choose another output "
            "folder."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_free(output: Path) -> None:
    """Refuse a folder in which a run is going on; one process of several may ask, as one is enough.

    Raises:
        ValueError: One is running there.
    """
    if (output / LOCK).exists():
        with occupied(output):
            pass


def write_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Write down what the folder belongs to."""
    output.mkdir(parents=True, exist_ok=True)
    replace_text(output / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def _is_empty(output: Path) -> bool:
    return output.is_dir() and all(inside.name == LOCK for inside in output.iterdir())


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} can't be read ({error}). Restore it, or choose another output folder."
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path} holds no settings of a run, got {settings!r:.80}. Choose another output "
            "folder."
        )
    return settings
