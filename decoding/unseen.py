"""Prompts whose pictures are withheld: left out, or each replaced by one unknown token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import PaliGemmaProcessor

from .places import needs_picture, place_token
from .processing import processed
from .prompts import Messages, rendered


def without_images(processor: Any, messages: Sequence[Messages]) -> dict[str, Tensor]:
    """Encode prompts as if they had never had a picture.

    Chat messages lose the parts that are images before their template sees them; raw text loses the
    image tokens, their brackets and the white space after them.

    Args:
        processor: The model's.
        messages: The prompts, with the places of their pictures.
    """
    texts, special = rendered(processor, [_bare(processor, prompt) for prompt in messages])
    return _text_alone(processor, texts, [""] * len(texts), special=special)


def with_unknown(
    processor: Any, messages: Sequence[Messages], counts: Sequence[int]
) -> dict[str, Tensor]:
    """Encode prompts with one unknown token in the place of each picture.

    Where the tokenizer has no unknown token its pad token stands in: that is ours.

    Args:
        processor: The model's.
        messages: The prompts, with the places of their pictures.
        counts: How many pictures each has.
    """
    unknown = processor.tokenizer.unk_token or processor.tokenizer.pad_token
    if needs_picture(processor):
        texts, special = rendered(processor, [_bare(processor, prompt) for prompt in messages])
        return _text_alone(processor, texts, [unknown * n for n in counts], special=special)
    texts, special = rendered(processor, messages)
    texts = [text.replace(str(place_token(processor)), unknown) for text in texts]
    return _text_alone(processor, texts, [""] * len(texts), special=special)


def _text_alone(
    processor: Any, texts: Sequence[str], marks: Sequence[str], *, special: bool
) -> dict[str, Tensor]:
    """Encode texts without pictures, also for the families that have them before the first token.

    Args:
        processor: The model's.
        texts: Without places for pictures.
        marks: What such a family is to read in their stead.
        special: Whether the tokenizer adds its special tokens.
    """
    tokenizer = processor.tokenizer
    nothing: list[list[Image]] = [[] for _ in texts]
    if isinstance(processor, PaliGemmaProcessor):
        begin = tokenizer.bos_token
        texts = [f"{mark}{begin}{text}\n" for mark, text in zip(marks, texts, strict=True)]
        encoding = processed(tokenizer, texts, nothing, special=False)
        return {**encoding, "token_type_ids": torch.zeros_like(encoding["input_ids"])}
    if needs_picture(processor):  # its processor would write the Q-Former's text too
        processor, texts = tokenizer, [mark + text for mark, text in zip(marks, texts, strict=True)]
    return processed(processor, texts, nothing, special=special)


def _bare(processor: Any, prompt: Messages) -> Messages:
    if isinstance(prompt, str):
        return re.sub(_pattern(processor), "", prompt)
    return [
        turn
        if isinstance(turn["content"], str)
        else {**turn, "content": [part for part in turn["content"] if part["type"] != "image"]}
        for turn in prompt
    ]


def _pattern(processor: Any) -> str:
    """A run of the special tokens that are about pictures, with the white space after it."""
    special = {str(place_token(processor)), *map(str, processor.tokenizer.all_special_tokens)}
    about = [re.escape(token) for token in special if re.search("image|img|vision", token.lower())]
    return rf"(?:{'|'.join(sorted(about))})+\s?" if about else r"(?!)"
