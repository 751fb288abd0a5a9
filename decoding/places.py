"""Where the pictures of a prompt stand in its text, before a processor expands them to tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from transformers import PaliGemmaProcessor


def sees(processor: Any) -> bool:
    """Whether it is a processor with eyes, and no plain tokenizer."""
    return hasattr(processor, "image_processor")


def place_token(processor: Any) -> str | None:
    """The text that stands for one picture, or None where the processor adds pictures itself."""
    token = getattr(processor, "image_token", None)
    return None if token is None or _adds_places(processor) else str(token)


def placed(processor: Any, text: str, count: int) -> str:
    """Put `count` pictures in front of a raw text that has no place for any.

    A line each, as LLaVA's prompts have them, except where the family's own format says otherwise.
    """
    token = place_token(processor)
    if token is None or token in text:
        return text
    ends = "" if isinstance(processor, PaliGemmaProcessor) else "\n"
    return f"{token}{ends}" * count + text


def split_places(processor: Any, text: str) -> tuple[str, str]:
    """Part a raw text into the places of pictures that it begins with, and the rest."""
    token = place_token(processor)
    front = re.match(rf"(?:{re.escape(token)}\s*)+", text) if token else None
    cut = front.end() if front else 0
    return text[:cut], text[cut:]


def check_places(processor: Any, texts: Sequence[str], images: Sequence[Sequence[Any]]) -> None:
    """Refuse a batch in which a prompt has not one place for each of its pictures.

    Args:
        processor: A tokenizer or a processor.
        texts: The prompts, chat messages already rendered.
        images: The pictures of each.

    Raises:
        ValueError: Names the first such prompt.
    """
    token = place_token(processor)
    for index, (text, row) in enumerate(zip(texts, images, strict=True)):
        if sees(processor) and not row and needs_picture(processor):
            raise ValueError(
                f"{type(processor).__name__} reads a picture with every prompt, but prompt {index} "
                "has none. Give each one, or use a model that reads text alone."
            )
        if _adds_places(processor) and len(row) > 1:
            raise ValueError(
                f"{type(processor).__name__} reads one picture a prompt, but prompt {index} has "
                f"{len(row)}. Leave all but one out."
            )
        if token is not None and sees(processor) and text.count(token) != len(row):
            raise ValueError(
                f"prompt {index} has {text.count(token)} places for {len(row)} pictures. A place "
                f"is {token!r} in raw text, a part {{'type': 'image'}} in a message's content."
            )


def _adds_places(processor: Any) -> bool:
    """Whether its pictures come in front of every text: the Q-Formers of BLIP-2, InstructBLIP."""
    return hasattr(processor, "num_query_tokens")


def needs_picture(processor: Any) -> bool:
    """Whether its prompts begin with their pictures, and none goes without."""
    return _adds_places(processor) or isinstance(processor, PaliGemmaProcessor)
