"""One grammar for naming a way to decode: `NAME[:key=value[;key=value]][+NAME...][@SEARCH]`.

`cad:alpha=0.5@greedy`, `adacad`, `dola:layers=2,4,6@beam5`. SEARCH is `greedy` (the default),
`sample` or `beamN`. `greedy` and `sample` alone are short for `plain@greedy` and `plain@sample`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .composed import Composed
from .method import Method
from .shift import Shift
from .table import METHODS

SHORT = ("greedy", "sample")
SEARCH = re.compile(r"greedy|sample|beam([2-9]|[1-9]\d+)")


@dataclass(frozen=True)
class Decoding:
    """A method and the search that reads its scores.

    `str()` is the canonical name, every parameter written out: it belongs in the key of a result.

    Attributes:
        name: The method's name in `METHODS`.
        method: Its hyper-parameters and rule.
        search: `greedy`, `sample`, or `beamN` with N of at least 2.
    """

    name: str
    method: Method
    search: str = "greedy"

    def __post_init__(self) -> None:
        _check_search(self.search)
        if self.name in METHODS and METHODS[self.name] is not type(self.method):
            raise ValueError(
                f"{self.name} names {METHODS[self.name].__name__}, got {self.method!r}. "
                "Give the method its own name."
            )

    def __str__(self) -> str:
        return f"{self._written(every=True)}@{self.search}"

    @property
    def label(self) -> str:
        """The shortest name that parses to this: what differs from the defaults alone."""
        if self.name == "plain" and self.search in SHORT:
            return self.search
        suffix = "" if self.search == "greedy" else f"@{self.search}"
        return f"{self._written(every=False)}{suffix}"

    def _written(self, *, every: bool) -> str:
        names, parts = [self.name], [self.method]
        if isinstance(self.method, Composed):
            names, parts = self.name.split("+"), list(self.method.parts)
        written = [
            f"{name}{_parameters(part, every=every)}"
            for name, part in zip(names, parts, strict=True)
        ]
        return "+".join(written)

    def generate_kwargs(self) -> dict[str, Any]:
        """Return what `generate` takes to search this way.

        Sampling is from the method's own distribution: temperature 1, no top-k, no top-p. The rest
        of the model's generation config (penalties, bans, min-p, lengths) stays as it is.
        """
        if self.search == "sample":
            flat = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
            return {"do_sample": True, "num_beams": 1, **flat}
        beams = int(self.search.removeprefix("beam")) if self.search != "greedy" else 1
        return {"do_sample": False, "num_beams": beams}


def parse(text: str) -> Decoding:
    """Read one name.

    Args:
        text: A name in the grammar above.

    Raises:
        ValueError: The name, or a method, parameter, value or search in it, is not one we know.
    """
    if not isinstance(text, str):
        raise ValueError(f"a decoding is named by text such as 'cad:alpha=1', got {text!r:.80}.")
    body, at, search = text.rpartition("@") if "@" in text else (text, "", "greedy")
    _check_search(search)
    if body in SHORT:
        if at:
            raise ValueError(
                f"{body} is short for plain@{body}, got {text!r}. Write plain@{search}."
            )
        body, search = "plain", body
    parts = [(part.partition(":")[0], _method(part)) for part in re.split(r"\+(?=[a-z])", body)]
    # One composition has one name, whatever the order in which it was written.
    parts.sort(key=lambda part: [*METHODS].index(part[0]))
    name = "+".join(name for name, _ in parts)
    return Decoding(name, _composed(name, [method for _, method in parts]), search)


def parse_list(text: str) -> list[Decoding]:
    """Read names separated by commas; a comma before a digit is part of a value.

    Args:
        text: For example `greedy,cad:alpha=1,dola:layers=2,4,6@sample`.

    Raises:
        ValueError: One of the names is wrong, or two mean the same.
    """
    if not isinstance(text, str):
        raise ValueError(f"decodings are named by text such as 'greedy,cad', got {text!r:.80}.")
    written = [name.strip() for name in re.split(r",(?!\s*\d)", text)]
    if "" in written:
        raise ValueError(f"methods are separated by one comma each, got {text!r}. Remove the rest.")
    decodings = [parse(name) for name in written]
    names = [str(decoding) for decoding in decodings]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"each method is named once, got {', '.join(repeated)} more than once.")
    return decodings


def _check_search(search: str) -> None:
    if not SEARCH.fullmatch(search):
        raise ValueError(
            f"search must be greedy, sample or beamN with N of at least 2, got {search!r}."
            f"{_nearest(search, (*SHORT, 'beam5'))}"
        )


def _composed(name: str, methods: Sequence[Method]) -> Method:
    if len(methods) == 1:
        return methods[0]
    shifts = tuple(method for method in methods if isinstance(method, Shift))
    if len(shifts) < len(methods):
        raise ValueError(
            f"no text method composes with another, got {name}. Name them one by one: "
            f"{','.join(name.split('+'))}."
        )
    try:
        return Composed(shifts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _method(part: str) -> Method:
    name, colon, listed = part.partition(":")
    if name not in METHODS:
        names = (*METHODS, *SHORT)
        raise ValueError(
            f"no decoding method is called {name!r}.{_nearest(name, names)} "
            f"There are: {', '.join(names)}."
        )
    values = _values(name, listed.split(";")) if colon else {}
    try:
        return METHODS[name](**values)
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


def _values(name: str, pairs: list[str]) -> dict[str, Any]:
    known = {field.name: field for field in fields(METHODS[name])}  # type: ignore[arg-type]
    hints = get_type_hints(METHODS[name])
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals and text):
            raise ValueError(f"parameters are written key=value;key=value, got {name}:{pair}.")
        if key not in known:
            raise ValueError(
                f"{name} has no parameter {key!r}.{_nearest(key, known)} "
                f"There are: {', '.join(known) or 'none'}."
            )
        if key in values:
            raise ValueError(f"each parameter is given once, got {name}:{key} twice.")
        values[key] = _converted(name, known[key], hints[key], text)
    return values


def _converted(name: str, field: Field[Any], hint: Any, text: str) -> Any:
    try:
        return _read(text, hint)
    except ValueError as error:
        raise ValueError(f"{name}:{field.name} takes {field.type}, got {text!r}.") from error


def _read(text: str, hint: Any) -> Any:
    options = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return _first(text, options)
    if get_origin(hint) is tuple:
        return tuple(_read(item, options[0]) for item in text.split(","))
    if get_origin(hint) is Literal:
        return _word(text, {option: option for option in options})
    if hint is Any:
        return None if text == "none" else text
    if hint is bool:
        return _word(text, {"true": True, "false": False})
    if hint is NoneType:
        return _word(text, {"none": None})
    return hint(text)


def _first(text: str, options: Iterable[Any]) -> Any:
    # Any text is a str, the word none too.
    for option in sorted(options, key=lambda option: option is not NoneType):
        try:
            return _read(text, option)
        except ValueError:
            continue
    raise ValueError(text)


def _word(text: str, words: dict[str, Any]) -> Any:
    if text not in words:
        raise ValueError(text)
    return words[text]


def _parameters(method: Method, *, every: bool) -> str:
    written = [
        f"{field.name}={_written(field.name, getattr(method, field.name))}"
        for field in fields(method)  # type: ignore[arg-type]
        if every or getattr(method, field.name) != field.default
    ]
    return f":{';'.join(written)}" if written else ""


def _written(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(_written(key, item) for item in value)
    if isinstance(value, float):
        # 1.0 and 1 are one value, so one name.
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (int, str)):
        return str(value)
    raise ValueError(
        f"{key} holds a {type(value).__name__}, which can't be written in a name. "
        "Pass a hub id or a path where the name matters."
    )


def _nearest(word: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(names), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
