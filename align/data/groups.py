"""Completions by name, a prompt's group of them, and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from .messages import Message, described, read_side
from .needs import Needs
from .problems import RowError

Side = str | list[Message]
Row = dict[str, Any]

SIDES = ("chosen", "rejected")
PAIR_SCORES = ("score_chosen", "score_rejected")
ONE = "completion"


def answers(row: Row) -> dict[str, Any]:
    """The completions of a row in the one form, by name."""
    return {name: row[name] for name in row if name in SIDES or name.startswith("completions[")}


def read_group(present: Row, prompt: Side | None, needs: Needs) -> Row:
    """Read the completions of a list.

    Args:
        present: The row's columns that aren't None.
        prompt: The row's, if it has one by itself.
        needs: What the method takes.

    Returns:
        prompt, completions[0], completions[1], ...

    Raises:
        RowError: They can't be used.
    """
    if needs.completions == "pair":
        raise RowError("unknown-format", "there are completions, where a pair is asked for")
    if others := [name for name in SIDES if name in present]:
        raise RowError("unknown-format", f"there are both completions and {others[0]}")
    given = present.get("completions", [present[ONE]] if ONE in present else None)
    if given is None or (isinstance(given, list) and not given):
        raise RowError("missing-completion", "completions is empty")
    if not isinstance(given, list):
        raise RowError("wrong-type", f"completions is {described(given)}, not a list")
    if prompt is None:
        raise RowError("missing-prompt", "completions need a column prompt")
    said = {f"completions[{i}]": read_side(one, f"completions[{i}]") for i, one in enumerate(given)}
    for name, side in said.items():
        if type(side) is not type(prompt):
            raise RowError(
                "wrong-type", f"the prompt is {written_as(prompt)}, {name} is {written_as(side)}"
            )
    return {"prompt": prompt, **said}


def check_size(said: Mapping[str, Side], numbers: Row, needs: Needs) -> None:
    """Check that there is something to compare, as the method compares it.

    Raises:
        RowError: There isn't.
    """
    sides = list(said.values())
    if not needs.compared:
        return
    if len(sides) == 1 and (needs.ordered or "baseline" not in numbers):
        raise RowError("one-completion", "it has one completion")
    for name, wanted in (("label", 2), ("baseline", 1)):
        if name in numbers and len(sides) != wanted:
            raise RowError("bad-number", f"there is a {name} beside {len(sides)} completions")
    same = next((i for i, side in enumerate(sides) if side in sides[:i]), None)
    if same is not None and (needs.ordered or all(side == sides[0] for side in sides)):
        raise RowError("identical", f"completions[{same}] is there twice")


def scores_of(row: Mapping[str, Any], names: Sequence[str], needs: Needs) -> Row:
    """Read the scores of a row's completions, where the method reads them.

    Raises:
        RowError: They're missing, no finite numbers, or tied where an order is asked for.
    """
    pair = tuple(names) == SIDES
    alone = not pair and row.get("completions") is None
    columns = PAIR_SCORES if pair else ("score" if alone else "scores",)
    there = all(name in row and row[name] is not None for name in columns)
    if not needs.scores and (pair or not needs.ordered or not there):
        return {}
    if not there:
        missing = [name for name in columns if row.get(name) is None]
        raise RowError("missing-score", f"no {' and no '.join(missing)}")
    given = [row[name] for name in columns] if pair or alone else row["scores"]
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise RowError("bad-number", f"scores is {described(given)}, not a list")
    if len(given) != len(names):
        raise RowError("missing-score", f"{len(given)} scores of {len(names)} completions")
    told = columns if pair or alone else [f"scores[{i}]" for i in range(len(given))]
    scores = [finite(name, x) for name, x in zip(told, given, strict=True)]
    if needs.ordered and len({*scores}) < len(scores):
        raise RowError("tied-scores", f"scores are {scores}")
    return {"scores": scores}


def finite(name: str, value: Any) -> float:
    """Take a number.

    Raises:
        RowError: It is something else, or not finite.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise RowError("bad-number", f"{name} is {described(value)}")
    return float(value)


def written_as(side: Side) -> str:
    """What a side is written as."""
    return "text" if isinstance(side, str) else "messages"
