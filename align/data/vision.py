"""Rows with images: one call of the processor a row, on its prompt.

Completions are tokenised without their images: the placeholders of the prompt stay as they are, and
what follows the prompt is taken off.
"""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin
from trl.data_utils import is_conversational, prepare_multimodal_messages

from contralign.decoding.places import place_token

from ..positions import TOKEN_TYPES
from .groups import Row, answers
from .images import open_image
from .messages import blamed
from .problems import RowError
from .tokens import Tokens, ended, template_options

# PaliGemma makes labels of its own.
_TEXT = ("input_ids", "attention_mask", "labels")


def see(row: Row, processor: ProcessorMixin) -> Tokens:
    """Read a row with images.

    BOS is put in front as the processor does it when it generates: where the text has none.

    Args:
        row: As `normalise` gives it.
        processor: Of the model.

    Raises:
        RowError: Images that can't be read, or that don't fit the prompt.
    """
    images = [open_image(image) for image in row["images"]]
    prompt, full = _texts(row, images, processor)
    _check_count(prompt, len(images), processor)
    tokenizer: Any = processor.tokenizer
    special = tokenizer.bos_token is None or not prompt.startswith(tokenizer.bos_token)
    with blamed("unreadable-image"):
        inputs = processor(
            text=[prompt],
            images=[images] if images else None,
            add_special_tokens=special,
            return_tensors="pt",
        )
    ids = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in (prompt, *full)]
    # Token types have the batch axis of the ids; pixels and grids have one an image.
    seen = {
        name: value[0] if name in TOKEN_TYPES else value
        for name, value in inputs.items()
        if name not in _TEXT
    }
    return Tokens(ids[0], ids[1:], inputs["input_ids"][0].tolist(), seen)


def _texts(row: Row, images: list[Any], processor: ProcessorMixin) -> tuple[str, list[str]]:
    if not is_conversational(row):
        return row["prompt"], [row["prompt"] + text for text in ended(row, processor)]
    options = template_options(row)
    with blamed("chat-template"):
        prompt = prepare_multimodal_messages(row["prompt"], images)
        said = [prepare_multimodal_messages(side) for side in answers(row).values()]
        rendered = processor.apply_chat_template(prompt, add_generation_prompt=True, **options)
        full = [processor.apply_chat_template(prompt + answer, **options) for answer in said]
    return rendered, full


def _check_count(prompt: str, images: int, processor: ProcessorMixin) -> None:
    token = place_token(processor)
    if token is not None and prompt.count(token) != images:
        raise RowError(
            "image-count",
            f"the prompt has {prompt.count(token)} times {token!r}, the row has {images} images",
        )
