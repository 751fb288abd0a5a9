"""A config file of `contralign train`, whose values are read as if they had been typed."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trl import TrlParser
from trl.scripts.utils import DatasetConfig

from contralign.align.mpo import MPOConfig
from contralign.align.refusals import unknown

from .parser import read_config

# Besides one value they take a mapping, or a list.
WHOLE = {*MPOConfig._VALID_DICT_FIELDS, "report_to", "optim_target_modules"}
PART = [field.name for field in dataclasses.fields(DatasetConfig)]


def take_file(reader: TrlParser, file: str) -> None:
    """Make the file's values the parser's defaults, and set the variables of its `env:`.

    Raises:
        OSError: The file can't be read.
        ValueError: A key that doesn't exist, or a value that it doesn't take.
    """
    settings = dict(read_config(Path(file)))
    variables = settings.pop("env", None) or {}
    if not isinstance(variables, Mapping):
        raise ValueError(f"{file}: env maps names to values, got {variables!r}.")
    actions = {action.dest: action for action in reversed(reader._actions)}
    refuse_unknown(settings, actions, f"{file}: ")
    try:
        read = {name: _read(reader, actions[name], value) for name, value in settings.items()}
    except argparse.ArgumentError as error:
        name = str(error.argument_name).partition("/")[0].removeprefix("--")
        raise ValueError(f"{file}: {name}: {error.message.rstrip('.')}.") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    reader.set_defaults_with_config(**read)
    os.environ.update({str(name): str(value) for name, value in variables.items()})


def refuse_unknown(names: Iterable[str], known: Iterable[str], where: str = "") -> None:
    """Refuse the first key that nobody knows.

    Raises:
        ValueError: With the nearest right one.
    """
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(where + unknown(name, known))


def _read(reader: TrlParser, action: argparse.Action, value: Any) -> Any:
    if action.dest == "datasets":
        return [_part(one) for one in (value if isinstance(value, list) else [value])]
    if value is None or (action.dest in WHOLE and isinstance(value, (Mapping, list))):
        return value
    many = action.nargs == "+"
    items = value if many and isinstance(value, list) else [value]
    read = [_one(reader, action, item) for item in items]
    return read if many else read[0]


def _one(reader: TrlParser, action: argparse.Action, value: Any) -> Any:
    if isinstance(value, (Mapping, list)):
        raise ValueError(f"{action.dest} takes one value, got {value!r}.")
    # YAML takes the word no for false.
    text = "no" if value is False and "no" in (action.choices or ()) else str(value)
    read = reader._get_value(action, text)
    reader._check_value(action, read)
    return read


def _part(value: Any) -> Any:
    """One data set of a mixture."""
    given = value if isinstance(value, Mapping) else {"path": value}
    refuse_unknown(given, PART, "datasets: ")
    if not isinstance(given.get("path"), str):
        raise ValueError(f"each of datasets has a path, got {value!r}.")
    return DatasetConfig(**given)
