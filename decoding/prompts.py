"""Prompts into model inputs: raw text or chat messages, left padded, one batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from PIL.Image import Image
from torch import Tensor

from .images import open_images
from .places import check_places, sees
from .processing import processed

Messages = str | Sequence[Mapping[str, Any]]


def encode(
    processor: Any, messages: Sequence[Messages], images: Sequence[Any] | None = None
) -> dict[str, Tensor]:
    """Tokenize a batch of prompts for generation.

    Raw text is tokenized as it is, special tokens included; chat messages go through the chat
    template, which writes its own. Nothing is truncated, and the tokenizer's own settings stay as
    they are.

    Args:
        processor: A tokenizer, or a processor (whatever has an `image_processor`).
        messages: One prompt each: raw text, or a list of chat messages. Not both in one batch.
        images: The pictures of each prompt, a list each, empty for none; `open_image` says what
            they can be. The text has the processor's image token for each, the messages a part of
            type image.

    Returns:
        `input_ids` and `attention_mask`, padded on the left, and whatever else the processor makes.

    Raises:
        ValueError: No prompt or an empty one, both kinds in one batch, no pad token, no chat
            template, or images that can't be opened, that have no place, or that nobody can read.
    """
    texts, special = rendered(processor, messages)
    opened = opened_for(processor, messages, images)
    check_places(processor, texts, opened)
    encoding = processed(processor, texts, opened, special=special)
    silent = (encoding["attention_mask"].sum(dim=-1) == 0).nonzero().flatten().tolist()
    _refuse_empty(silent)
    return encoding


def rendered(processor: Any, messages: Sequence[Messages]) -> tuple[list[str], bool]:
    """Write a batch of prompts as text.

    Returns:
        A text each, and whether the tokenizer is to add its special tokens to them.

    Raises:
        ValueError: See `encode`.
    """
    _check_batch(messages)
    tokenizer = processor.tokenizer if sees(processor) else processor
    _check_padding(tokenizer)
    if isinstance(messages[0], str):
        return [str(prompt) for prompt in messages], True
    if not processor.chat_template:
        raise ValueError(
            f"chat messages need a chat template, and this {type(processor).__name__} has none. "
            "Use an instruction-tuned model's tokenizer, or pass the prompts as plain text."
        )
    texts = [_templated(processor, index, turns) for index, turns in enumerate(messages)]
    # A processor's templates leave the first token to its tokenizer, unless they write it.
    begun = tokenizer.bos_token is not None and texts[0].startswith(tokenizer.bos_token)
    return texts, sees(processor) and not begun


def opened_for(
    processor: Any, messages: Sequence[Messages], images: Sequence[Any] | None
) -> list[list[Image]]:
    """Open the pictures of a batch of prompts.

    Raises:
        ValueError: Another number of entries than of prompts, an image that can't be opened, or
            pictures for a plain tokenizer.
    """
    if images is None:
        return [[] for _ in messages]
    if len(images) != len(messages):
        raise ValueError(
            f"images needs one entry per prompt, got {len(images)} for {len(messages)}. "
            "Pass a list of lists, empty for a prompt without any."
        )
    empty = [isinstance(row, list | tuple) and not row for row in images]
    shown = [index for index, without in enumerate(empty) if not without]
    if shown and not sees(processor):
        raise ValueError(
            f"images need a processor, got a plain tokenizer and images for prompts {shown}. Load "
            "the model's AutoProcessor, or a model that has one."
        )
    return open_images(images)


def _templated(processor: Any, index: int, turns: Messages) -> str:
    try:
        return processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise ValueError(
            f"the chat template refuses prompt {index}: {error}. Change its messages to what the "
            "template allows (often: an optional system turn, then user and assistant in turns)."
        ) from error


def _check_batch(messages: Sequence[Messages]) -> None:
    if not isinstance(messages, Sequence):
        raise ValueError(f"encode takes a list of prompts, got {messages!r:.80}. Pass [prompt].")
    if isinstance(messages, str) or any(isinstance(prompt, Mapping) for prompt in messages):
        raise ValueError("encode takes a list of prompts, got a single one. Pass [prompt].")
    if not messages:
        raise ValueError("encode needs at least one prompt, got an empty batch.")
    for index, prompt in enumerate(messages):
        if not _is_prompt(prompt):
            raise ValueError(
                f"prompts are texts or lists of chat messages, got {prompt!r:.80} as prompt "
                f"{index}. Pass a str, or [{{'role': 'user', 'content': ...}}]."
            )
    raw = [index for index, prompt in enumerate(messages) if isinstance(prompt, str)]
    if 0 < len(raw) < len(messages):
        raise ValueError(
            f"a batch holds raw text or chat messages, not both: prompts {raw} are raw text, the "
            "others chat. Encode them in two batches."
        )
    _refuse_empty([index for index, prompt in enumerate(messages) if not _says_something(prompt)])


def _is_prompt(prompt: object) -> bool:
    if isinstance(prompt, str):
        return True
    return isinstance(prompt, Sequence) and all(isinstance(turn, Mapping) for turn in prompt)


def _says_something(prompt: Messages) -> bool:
    if isinstance(prompt, str):
        return bool(prompt)
    return any(turn.get("content") for turn in prompt)


def _refuse_empty(indices: list[int]) -> None:
    if indices:
        raise ValueError(
            f"prompts {indices} are empty, and a model can't continue nothing. Give each some "
            "text; the begin-of-sequence token will do as a prompt without content."
        )


def _check_padding(tokenizer: Any) -> None:
    if not hasattr(tokenizer, "pad_token"):
        raise ValueError(
            f"prompts are encoded by a tokenizer or processor, got {tokenizer!r:.80}. Load one "
            "with AutoTokenizer or AutoProcessor."
        )
    if tokenizer.pad_token is None:
        raise ValueError(
            "prompts of one batch are padded to one length, and this tokenizer has no pad token. "
            "Set tokenizer.pad_token = tokenizer.eos_token."
        )
