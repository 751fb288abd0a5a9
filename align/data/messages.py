"""Messages as chat templates take them, from OpenAI's spelling (role, content) or ShareGPT's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trl.trainer.utils import remove_none_values

from .problems import RowError

Message = dict[str, Any]

SHAREGPT_ROLES: Mapping[str, str] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
FUNCTION_CALL = "function_call"
ASKING = ("user", "system", "developer")
PLACEHOLDER = "<image>"

WRITTEN_OUT = re.compile(r"""\s*\[\s*\{\s*['"](role|content|from|value)['"]\s*:""")


def read_side(value: Any, name: str) -> str | list[Message]:
    """Read a prompt or a completion: text, a message, or messages.

    Args:
        value: As it is in the data.
        name: The column, for complaints.

    Returns:
        Text, or messages with a role and a content and without keys that say nothing: a table
        gives every message the keys of all.

    Raises:
        RowError: It's something else.
    """
    if isinstance(value, str):
        if WRITTEN_OUT.match(value):
            raise RowError("wrong-type", f"{name} is text that looks like messages written out")
        return value
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise RowError("wrong-type", f"{name} is {described(value)}, not text or messages")
    return [_message(message, f"{name}[{index}]") for index, message in enumerate(value)]


def flat(message: Message) -> Message:
    """Join content that is parts of text only: templates for text would print the list."""
    content = message.get("content")
    if isinstance(content, list) and all(part["type"] == "text" for part in content):
        return {**message, "content": "".join(part["text"] for part in content)}
    return message


def says_something(messages: str | Sequence[Message]) -> bool:
    """Whether there is any text, or a tool is called."""
    if isinstance(messages, str):
        return bool(messages.strip())
    return any(text_of(message).strip() or message.get("tool_calls") for message in messages)


def text_of(message: Message) -> str:
    """The text of a message's content."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def described(value: Any) -> str:
    """A value for complaints: its type and how it begins."""
    if value is None:
        return "None"
    shown = " ".join(repr(value).split())
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'}"


@contextmanager
def blamed(problem: str) -> Iterator[None]:
    """Say of whatever is raised in it that the row is at fault: templates may raise anything."""
    try:
        yield
    except Exception as error:
        raise RowError(problem, f"{type(error).__name__}: {error}") from error


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise RowError("wrong-type", f"{where} is {described(value)}, not a message")
    if "from" in value and value.get("role") is None:
        value = _from_sharegpt(value, where)
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or not role:
        raise RowError("wrong-type", f"{where} has no role but {', '.join(value) or 'nothing'}")
    if content is None and not value.get("tool_calls"):
        raise RowError("wrong-type", f"{where} has no content")
    if not isinstance(content, str | list | None):
        raise RowError("wrong-type", f"{where}.content is {described(content)}, not text or parts")
    message = remove_none_values(dict(value))
    if isinstance(content, list):
        message["content"] = [_part(part, f"{where}.content") for part in message["content"]]
    elif content is None and "content" in value:
        message["content"] = None
    return message


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return dict(part)
    if kind == "image" and set(part) == {"type"}:
        return dict(part)
    if kind == "image":
        raise RowError(
            "image-count", f"{where} holds an image itself; it belongs in the column images"
        )
    raise RowError("wrong-type", f"{where} has the part {described(part)}, not text or an image")


def _from_sharegpt(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    role, text = value["from"], value.get("value")
    rest = {key: value[key] for key in value if key not in ("from", "value", "role", "content")}
    if role == FUNCTION_CALL:
        return {"role": "assistant", "content": "", "tool_calls": _calls(text, where), **rest}
    if role not in SHAREGPT_ROLES:
        known = ", ".join([*SHAREGPT_ROLES, FUNCTION_CALL])
        raise RowError("unknown-format", f"{where} is from {described(role)}, not from {known}")
    return {"role": SHAREGPT_ROLES[role], "content": text, **rest}


def _calls(text: Any, where: str) -> list[dict[str, Any]]:
    try:
        calls = json.loads(text)
        calls = calls if isinstance(calls, list) else [calls]
        return [
            {
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in calls
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise RowError(
            "wrong-type", f"{where} calls a function with {described(text)}, not with JSON"
        ) from error
