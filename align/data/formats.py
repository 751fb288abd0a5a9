"""Rows of preference data, brought into one form: an explicit prompt and named completions.

Known are TRL's formats (text or messages; the prompt in a column or in front of both completions;
images; tools), ShareGPT's conversations with chosen and rejected, and groups: a prompt with a list
`completions`, and a list `scores` beside it; or with one `completion` and its `score`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from trl.data_utils import extract_prompt, is_conversational
from trl.trainer.utils import remove_none_values

from .groups import (
    SIDES,
    Row,
    Side,
    answers,
    check_size,
    finite,
    read_group,
    scores_of,
    written_as,
)
from .images import place, placeholders
from .messages import (
    ASKING,
    described,
    flat,
    read_side,
    says_something,
    text_of,
)
from .needs import PAIRS, Needs
from .problems import RowError

CONVERSATIONS = ("conversations", "messages")
IMAGES = ("images", "image")
NUMBERS = ("weight", "margin", "label", "baseline")
# Columns that other layouts keep the prompt in, beside completions that are text.
_UNREAD_PROMPTS = ("question", "instruction", "query", "input")


def normalise(row: Mapping[str, Any], needs: Needs = PAIRS) -> Row:
    """Bring a row into the one form.

    Args:
        row: A row in any of the known formats. None is as good as absent, except for numbers.
        needs: What is read of it.

    Returns:
        prompt, and chosen and rejected, or completions[0], completions[1], ..., all text or all
        messages; where the row has them tools, chat_template_kwargs, images (a list), the numbers
        that are read, and a list of scores.

    Raises:
        RowError: The row can't be trained on; it names the problem.
    """
    present = {name: value for name, value in row.items() if value is not None}
    sides = _with_system(_sides(present, list(row), needs), present)
    _check_said(sides)
    numbers = _numbers(row, needs)
    check_size(answers(sides), numbers, needs)
    numbers |= scores_of(row, list(answers(sides)), needs)
    images = _images(row)
    if is_conversational(sides):
        _check_turns(sides)
        sides = _flattened(sides) if images is None else _placed(sides, images)
    found = sides if images is None else {**sides, "images": images}
    return {**found, **_template_options(present), **numbers}


def excerpt(row: Mapping[str, Any]) -> str:
    """How a row's prompt begins, to recognise it by; of any row, broken ones too."""
    for name in ("prompt", *CONVERSATIONS, "chosen", "rejected"):
        value = row.get(name)
        while isinstance(value, Sequence) and not isinstance(value, str) and value:
            value = value[-1] if name in CONVERSATIONS or name == "prompt" else value[0]
        if isinstance(value, Mapping):
            value = value.get("content") or value.get("value")
        if value and isinstance(value, str):
            text = " ".join(value.split())
            return text if len(text) <= 50 else f"{text[:47]}..."
    return ""


def _sides(present: Row, columns: Sequence[str], needs: Needs) -> Row:
    pair = present.keys() & {*SIDES}
    listed = {"completions", "completion"} & {*(present if pair else columns)}
    if listed and (needs.completions == "group" or (needs.completions == "pair" and not pair)):
        return read_group(present, _prompt(present), needs)
    if needs.completions == "none" and not pair:
        prompt = _prompt(present)
        if prompt is None:
            raise RowError("missing-prompt", f"the columns are {', '.join(columns) or 'none'}")
        return {"prompt": prompt}
    chosen, rejected = _completions(present, columns)
    if chosen == rejected and needs.completions != "none":
        raise RowError("identical", f"both are {described(present['chosen'])}")
    sides = _prompted(_prompt(present), chosen, rejected, present)
    return {"prompt": sides["prompt"]} if needs.completions == "none" else sides


def _completions(present: Row, columns: Sequence[str]) -> tuple[Side, Side]:
    missing = [name for name in ("chosen", "rejected") if name not in present]
    if len(missing) == 2 and not set(missing) & set(columns):
        raise RowError("unknown-format", f"the columns are {', '.join(columns) or 'none'}")
    if missing:
        told = " and ".join(f"no {name}{_misspelt(name, columns)}" for name in missing)
        raise RowError("missing-completion", told)
    chosen, rejected = (read_side(present[name], name) for name in ("chosen", "rejected"))
    if type(chosen) is not type(rejected):
        raise RowError(
            "wrong-type", f"chosen is {written_as(chosen)}, rejected is {written_as(rejected)}"
        )
    return chosen, rejected


def _misspelt(name: str, columns: Sequence[str]) -> str:
    close = [] if name in columns else get_close_matches(name, columns, n=1)
    return f" (but a column {close[0]!r}: is it that?)" if close else ""


def _prompt(present: Row) -> Side | None:
    """The prompt that the row gives by itself."""
    name = next((name for name in ("prompt", *CONVERSATIONS) if name in present), None)
    return None if name is None else read_side(present[name], name)


def _prompted(prompt: Side | None, chosen: Side, rejected: Side, present: Row) -> Row:
    """Put the three together; an implicit prompt is what both completions begin with."""
    if type(prompt) is type(chosen):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if isinstance(prompt, list):
        raise RowError(
            "wrong-type", f"the prompt is {written_as(prompt)}, chosen is {written_as(chosen)}"
        )
    if isinstance(chosen, str) and (unread := [c for c in _UNREAD_PROMPTS if c in present]):
        raise RowError("unknown-format", f"there is no column prompt, but {', '.join(unread)}")
    if not chosen or not rejected:
        raise RowError("empty-completion", f"{'rejected' if chosen else 'chosen'} is empty")
    if chosen[0] != rejected[0]:
        told = "no prompt" if prompt is None else "text for a prompt, messages for completions"
        raise RowError("missing-prompt", f"{told}, and chosen and rejected begin differently")
    shorter, longer = sorted((chosen, rejected), key=len)
    if longer[: len(shorter)] == shorter:
        raise RowError("empty-completion", "one completion is only how the other begins")
    return dict(extract_prompt({"chosen": chosen, "rejected": rejected}))


def _with_system(sides: Row, present: Row) -> Row:
    """Turn ShareGPT's column system into the first turn."""
    system, prompt = present.get("system"), sides["prompt"]
    if not system:
        return sides
    if not isinstance(system, str) or isinstance(prompt, str):
        told = f"{described(system)}, beside a prompt that is {written_as(prompt)}"
        raise RowError("unknown-format", f"there is a column system with {told}")
    if prompt and prompt[0]["role"] == "system":
        if text_of(prompt[0]) != system:
            raise RowError("unknown-format", "the column system and the system turn differ")
        return sides
    return {**sides, "prompt": [{"role": "system", "content": system}, *prompt]}


def _check_said(sides: Row) -> None:
    if not sides["prompt"]:
        raise RowError("missing-prompt", "it is empty")
    for name, side in answers(sides).items():
        if not says_something(side):
            raise RowError("empty-completion", f"{name} is {described(side)}")


def _check_turns(sides: Row) -> None:
    for name, side in answers(sides).items():
        role = side[0]["role"]
        if role in ASKING:
            repeats = side[: len(sides["prompt"])] == sides["prompt"]
            told = "and repeats the prompt" if repeats else f"({text_of(side[0])[:40]!r})"
            raise RowError("wrong-turn", f"{name} begins with the turn of {role} {told}")


def _flattened(sides: Row) -> Row:
    return {name: [flat(message) for message in side] for name, side in sides.items()}


def _placed(sides: Row, images: Sequence[Any]) -> Row:
    for name, side in answers(sides).items():
        if placeholders(side):
            raise RowError("image-count", f"{name} has a placeholder")
    return {**sides, "prompt": place(sides["prompt"], images)}


def _images(row: Mapping[str, Any]) -> list[Any] | None:
    """The row's images; None where the data has no column for them."""
    columns = [name for name in IMAGES if name in row]
    filled = [name for name in columns if row[name] is not None]
    if len(filled) > 1:
        raise RowError("unknown-format", "there are both a column image and a column images")
    if not columns:
        return None
    value = row[filled[0]] if filled else []
    return list(value) if isinstance(value, list | tuple) else [value]


def _template_options(present: Row) -> Row:
    found = {}
    for name, kind in (("tools", list), ("chat_template_kwargs", dict)):
        value = present.get(name)
        if isinstance(value, str) and value:
            try:
                value = json.loads(value)
            except ValueError as error:
                raise RowError("wrong-type", f"{name} is {described(value)}, no JSON") from error
        if value and not isinstance(value, kind):
            raise RowError("wrong-type", f"{name} is {described(value)}, not a {kind.__name__}")
        if value:
            found[name] = remove_none_values(value)
    return found


def _numbers(row: Mapping[str, Any], needs: Needs) -> Row:
    found = {name: finite(name, row[name]) for name in needs.numbers if name in row}
    if found.get("weight", 0) < 0:
        raise RowError("bad-number", f"weight is {found['weight']}, below 0")
    if not 0 <= found.get("label", 0) <= 1:
        raise RowError("bad-number", f"label is {found['label']}, outside [0, 1]")
    return found
