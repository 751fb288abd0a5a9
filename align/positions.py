"""Where each prompt's tokens stand, and where its completions go on.

A text prompt counts 0, 1, 2, ...; models with multimodal rotary positions (Qwen2-VL and its kin)
place an image's tokens on a grid, and text after it goes on from there.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from .batch import Batch

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


def prompt_positions(backbone: Any, batch: Batch) -> list[tuple[Tensor, int]]:
    """Place the prompts of a batch.

    Args:
        backbone: The model without its head.
        batch: Prompts and what the processor made of their images.

    Returns:
        For each prompt its positions, `[tokens]` or `[3, tokens]`, and the position after it.
    """
    if not hasattr(backbone, "get_rope_index"):
        return [(torch.arange(len(prompt)), len(prompt)) for prompt in batch.prompts]
    images = batch.images or [{}] * len(batch)
    return [
        _on_a_grid(backbone, torch.tensor([list(prompt)]), image)
        for prompt, image in zip(batch.prompts, images, strict=True)
    ]


def positions_after(first: int, count: int, axes: Tensor) -> Tensor:
    """Positions of a completion's tokens, the same on each of the prompt's axes."""
    after = torch.arange(first, first + count)
    return after if axes.ndim == 1 else after.expand(len(axes), count)


def _on_a_grid(backbone: Any, ids: Tensor, image: Any) -> tuple[Tensor, int]:
    accepted = inspect.signature(backbone.get_rope_index).parameters
    given = {
        key: value.cpu()[None] if key in TOKEN_TYPES else value.cpu()
        for key, value in image.items()
        if key in accepted
    }
    if "mm_token_type_ids" in accepted:
        given.setdefault("mm_token_type_ids", torch.zeros_like(ids))
    positions, delta = backbone.get_rope_index(input_ids=ids, **given)
    return positions[:, 0], ids.shape[1] + int(delta)
