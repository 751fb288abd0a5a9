"""One call of a processor, with what its family gets wrong in a batch put right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image
from torch import Tensor

from .places import sees


def processed(
    processor: Any, texts: Sequence[str], images: Sequence[Sequence[Image]], *, special: bool
) -> dict[str, Tensor]:
    """Tokenize a batch of texts, padded on the left, with the pictures that stand in them.

    Args:
        processor: A tokenizer or a processor.
        texts: With a place for each picture.
        images: The pictures of each text.
        special: Whether the tokenizer adds its special tokens.

    Raises:
        ValueError: What the processor says, with the prompt it says it of.
    """
    options: dict[str, Any] = {
        "add_special_tokens": special,
        "padding": True,
        "padding_side": "left",
        "return_attention_mask": True,
        "return_tensors": "pt",
    }
    try:
        encoding = _called(processor, texts, images, options)
    except ValueError:
        _blame(processor, texts, images, options)
        raise
    encoding.pop("labels", None)
    if "qformer_input_ids" in encoding:
        _gather(encoding, prefix="", end=True)
        _gather(encoding, prefix="qformer_", end=False)
    return encoding


def _called(
    processor: Any,
    texts: Sequence[str],
    images: Sequence[Sequence[Image]],
    options: dict[str, Any],
) -> dict[str, Any]:
    shown = {"images": [list(row) for row in images]} if any(images) else {}
    return dict(processor(text=list(texts), **shown, **options))


def _blame(
    processor: Any,
    texts: Sequence[str],
    images: Sequence[Sequence[Image]],
    options: dict[str, Any],
) -> None:
    """Raise for the first prompt that can't be read alone either, if it's a matter of pictures."""
    if not sees(processor):
        return
    for index, (text, row) in enumerate(zip(texts, images, strict=True)):
        try:
            _called(processor, [text], [row], options)
        except ValueError as error:
            raise ValueError(f"prompt {index}: {error}") from error


def _gather(encoding: dict[str, Any], *, prefix: str, end: bool) -> None:
    """Move a text's tokens together, to its end or to its beginning.

    InstructBLIP's processor leaves padding between picture and text, and pads the Q-Former's text,
    whose positions count from the first id, on the left.
    """
    ids, mask = f"{prefix}input_ids", f"{prefix}attention_mask"
    order = encoding[mask].argsort(dim=-1, descending=not end, stable=True)
    for name in (ids, mask):
        encoding[name] = encoding[name].gather(-1, order)
