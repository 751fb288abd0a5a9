"""The folder of a run: it belongs to one set of settings, and its files are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contralign.files import differences, replace_text

SETTINGS = "run.json"


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
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(
            f"{output} is in use but holds no {SETTINGS}, so it is no run to resume. Choose a new "
            "or empty output folder."
        )


def write_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Write down what the folder belongs to."""
    output.mkdir(parents=True, exist_ok=True)
    replace_text(output / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} can't be read ({error}). Restore it, or choose another output folder."
        ) from error
    return dict(settings)
