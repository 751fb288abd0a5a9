"""Prompts into model inputs: raw text or chat messages, left padded, one batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

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
        images: The images of each prompt, where its text or messages have placeholders for them.

    Returns:
        `input_ids` and `attention_mask`, padded on the left, and whatever else the processor makes.

    Raises:
        ValueError: No prompt or an empty one, both kinds in one batch, no pad token, no chat
            template, or images that are of another number than the prompts or that nobody can read.
    """
    _check_batch(messages)
    sees = hasattr(processor, "image_processor")
    _check_images(sees, messages, images)
    _check_padding(processor.tokenizer if sees else processor)
    chat = not isinstance(messages[0], str)
    encoding = processor(
        text=_rendered(processor, messages) if chat else list(messages),
        **({} if images is None else {"images": list(images)}),
        add_special_tokens=not chat,
        padding=True,
        padding_side="left",
        return_attention_mask=True,
        return_tensors="pt",
    )
    silent = (encoding["attention_mask"].sum(dim=-1) == 0).nonzero().flatten().tolist()
    _refuse_empty(silent)
    return dict(encoding)


def _rendered(processor: Any, conversations: Sequence[Messages]) -> list[str]:
    if not processor.chat_template:
        raise ValueError(
            f"chat messages need a chat template, and this {type(processor).__name__} has none. "
            "Use an instruction-tuned model's tokenizer, or pass the prompts as plain text."
        )
    return [
        processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        for turns in conversations
    ]


def _check_batch(messages: Sequence[Messages]) -> None:
    if isinstance(messages, str) or any(isinstance(prompt, Mapping) for prompt in messages):
        raise ValueError("encode takes a list of prompts, got a single one. Pass [prompt].")
    if not messages:
        raise ValueError("encode needs at least one prompt, got an empty batch.")
    raw = [index for index, prompt in enumerate(messages) if isinstance(prompt, str)]
    if 0 < len(raw) < len(messages):
        raise ValueError(
            f"a batch holds raw text or chat messages, not both: prompts {raw} are raw text, the "
            "others chat. Encode them in two batches."
        )
    _refuse_empty([index for index, prompt in enumerate(messages) if not _says_something(prompt)])


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


def _check_images(sees: bool, messages: Sequence[Messages], images: Sequence[Any] | None) -> None:
    if images is None:
        return
    if not sees:
        raise ValueError(
            "images need a processor, got a plain tokenizer. Load the model's AutoProcessor."
        )
    if len(images) != len(messages):
        raise ValueError(
            f"images needs one entry per prompt, got {len(images)} for {len(messages)}. "
            "Pass a list of lists, empty for a prompt without any."
        )


def _check_padding(tokenizer: Any) -> None:
    if tokenizer.pad_token is None:
        raise ValueError(
            "prompts of one batch are padded to one length, and this tokenizer has no pad token. "
            "Set tokenizer.pad_token = tokenizer.eos_token."
        )
