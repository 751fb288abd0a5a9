"""The images of a row, and their places in its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from contralign import decoding

from .messages import PLACEHOLDER, Message
from .problems import RowError


def open_image(value: Any) -> Image.Image:
    """Read an image completely and turn it to RGB.

    Args:
        value: What `contralign.decoding.open_image` takes.

    Raises:
        RowError: It can't be used.
    """
    try:
        return decoding.open_image(value)
    except decoding.ImageError as error:
        raise RowError("unreadable-image", error.found) from error


def place(prompt: Sequence[Message], images: Sequence[Any]) -> list[Message]:
    """Give each image its place.

    Args:
        prompt: Its placeholders are parts of type image, or `<image>` in text.
        images: As many as there are placeholders; where there is none, TRL puts them in front of
            the first question.

    Returns:
        Messages whose content is parts if there is a placeholder anywhere.

    Raises:
        RowError: The counts differ.
    """
    parted = [_parted(message) for message in prompt]
    count = placeholders(parted)
    asks = any(m["role"] == "user" and isinstance(m.get("content"), str) for m in prompt)
    if count == 0 and (not images or asks):
        return list(prompt)
    if count != len(images):
        raise RowError(
            "image-count", f"the prompt has {count} placeholders, the row has {len(images)} images"
        )
    return parted


def placeholders(messages: Sequence[Message]) -> int:
    """Count the parts that stand for an image."""
    parts = [message.get("content") or [] for message in messages]
    return sum(
        isinstance(part, dict) and part["type"] == "image" for some in parts for part in some
    )


def _parted(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    pieces = content.split(PLACEHOLDER)
    parts: list[dict[str, Any]] = [{"type": "text", "text": pieces[0]}]
    for piece in pieces[1:]:
        parts += [{"type": "image"}, {"type": "text", "text": piece}]
    return {**message, "content": [part for part in parts if part.get("text") != ""]}
