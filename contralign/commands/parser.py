"""Argument parsing: options from a YAML file, and complaints that name the nearest right word."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Never

import yaml

from contralign.files import read_text


class Parser(argparse.ArgumentParser):
    """A parser that takes `--config FILE` if it has that option, and refuses what it doesn't know.

    Args:
        prog: What the command is called.
        description: The help's first paragraphs; the reader's terminal breaks its lines.
        fill: Adds the arguments when the parser is first used, so that a command line imports only
            what its own command needs.
        **options: Of `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        prog: str | None = None,
        *,
        description: str | None = None,
        fill: Callable[[Parser], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._fill:
            self._fill(self)
            self._fill = None
        words = [_dashed(word) for word in (sys.argv[1:] if args is None else args)]
        if "--config" in self._option_string_actions:
            words = self._with_config(words)
        # Before argparse, which would rather miss a required option than mention the misspelt one.
        if self._subparsers is None:
            self._refuse_unknown(words)
        known, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"{self.prog} takes no word {unknown[0]!r} there.")
        return known, unknown

    def _refuse_unknown(self, words: list[str]) -> None:
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        for flag in flags[: flags.index("--") if "--" in flags else None]:
            # argparse takes what has a blank for a value.
            if " " not in flag and flag not in self._flags():
                self.error(_unknown("option", flag, self._flags()))

    def error(self, message: str) -> Never:
        end = "" if message.endswith((".", "?")) else "."
        sys.exit(complain(f"{message}{end} See {self.prog} --help.", 2))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, _unknown("choice", value, action.choices))

    def _flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _with_config(self, words: list[str]) -> list[str]:
        """Put what the file says in front of the words, which therefore win."""
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config", action="append", default=[])
        vars(finder)["error"] = self.error
        found, rest = finder.parse_known_args(words)
        if not found.config:
            return words
        if len(found.config) > 1:
            self.error(f"--config is given once, got {', '.join(found.config)}.")
        return [*self._words(found.config[0]), *rest]

    def _words(self, file: str) -> list[str]:
        settings = read_config(Path(file))
        flags = [flag for flag in self._flags() if flag not in ("--config", "--help")]
        actions = {
            flag[2:].replace("-", "_"): self._option_string_actions[flag]
            for flag in flags
            if not flag.startswith("--no-")
        }
        words = []
        for key, value in settings.items():
            if key not in actions:
                self.error(f"{file}: {_unknown('key', key, actions)}")
            repeated = isinstance(actions[key], argparse._AppendAction)
            each = value if repeated and isinstance(value, list) else [value]
            words += [self._readable(file, actions[key], key, x) for x in each if x is not None]
        return words

    def _readable(self, file: str, action: argparse.Action, key: str, value: Any) -> str:
        """The word of a key, which its option can read."""
        switch = action.nargs == 0
        word = _word(file, key, value, switch=switch)
        if not switch:
            try:
                self._check_value(action, self._get_value(action, word.partition("=")[2]))
            except argparse.ArgumentError as error:
                self.error(f"{file}: {key}: {error.message}")
        return word


def complain(message: str, code: int) -> int:
    """Print an error on one line and return its exit code."""
    print(f"contralign: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def read_config(file: Path) -> Mapping[str, Any]:
    """Read a YAML file of `key: value` lines.

    Raises:
        OSError: The file can't be read.
        ValueError: There is no such file, it isn't YAML, has a key twice, or is no mapping.
    """
    if not file.is_file():
        raise ValueError(
            f"--config names a YAML file, got {file}, which isn't one. Check the path."
        )
    try:
        settings = yaml.load(read_text(file), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML file: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} must hold `key: value` lines, got {type(settings).__name__}.")
    return {str(key): value for key, value in settings.items()}


class _Loader(yaml.SafeLoader):
    """Reads YAML as `safe_load` does, but a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for place, _ in node.value:
            key = self.construct_object(place, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", place.start_mark
                )
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


def _word(file: str, key: str, value: Any, *, switch: bool) -> str:
    flag = key.replace("_", "-")
    if switch and isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if switch or isinstance(value, (bool, dict)):
        expected = "true or false" if switch else "one value, or a list of values"
        raise ValueError(f"{file}: {key} takes {expected}, got {value!r}.")
    return f"--{flag}={value}"


def _dashed(word: str) -> str:
    """Let `--batch_size` stand for `--batch-size`: keys of a file are options with underscores."""
    flag, equals, value = word.partition("=")
    return f"{flag.replace('_', '-')}{equals}{value}" if flag.startswith("--") else word


def _unknown(kind: str, word: Any, known: Iterable[Any]) -> str:
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), names, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(names)}."
    return f"there is no {kind} {str(word)!r}. {hint}"
