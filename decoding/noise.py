"""Gaussian noise on the pixels of each picture, as a diffusion model adds it (VCD).

Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, with the sigmoid
schedule of VCD's authors: `v' = sqrt(abar_t) * v + sqrt(1 - abar_t) * eps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .pictured import Prompts
from .prompts import encode
from .seeding import generator

NOISE_STEPS = 1000
_LEAST, _MOST = 1e-5, 0.5e-2


@cache
def shares(step: int) -> tuple[float, float]:
    """How much of a picture and of noise is left at a step: `sqrt(abar_t)`, `sqrt(1 - abar_t)`.

    Args:
        step: From 0 to 999.
    """
    rising = 1 / (1 + np.exp(-np.linspace(-6, 6, NOISE_STEPS)))
    kept = np.cumprod(1 - (rising * (_MOST - _LEAST) + _LEAST))[step]
    return float(np.sqrt(kept)), float(np.sqrt(1 - kept))


def noised(prompts: Prompts, step: int) -> dict[str, Tensor]:
    """Encode prompts with noise on their pictures.

    Every prompt's noise has the shape of its own pictures and comes from its own seed, so it does
    not depend on what else is in the batch. What a processor pads stays as it is.

    Args:
        prompts: Each with its pictures and its seed.
        step: See `shares`.
    """
    batch = encode(prompts.processor, prompts.messages, prompts.images)
    alone = [batch] if len(prompts.messages) == 1 else _one_by_one(prompts)
    for name in [key for key, value in batch.items() if value.is_floating_point()]:
        rows = [row[name] for row in alone]
        batch[name] = _with_noise(batch[name], rows, prompts.seeds, step)
    return batch


def _one_by_one(prompts: Prompts) -> list[dict[str, Tensor]]:
    pairs = zip(prompts.messages, prompts.images, strict=True)
    return [encode(prompts.processor, [message], [row]) for message, row in pairs]


def _with_noise(pixels: Tensor, rows: Sequence[Tensor], seeds: Sequence[int], step: int) -> Tensor:
    """Mix noise into each prompt's part of a batch's pixels.

    All layouts are the rows' one after the other along the first axis (pictures, tiles, patches, or
    prompts), with the other axes padded at their ends.
    """
    signal, noise = shares(step)
    mixed, start = pixels.clone(), 0
    for row, seed in zip(rows, seeds, strict=True):
        drawn = generator(seed, "noise").standard_normal(tuple(row.shape), dtype=np.float32)
        part = (slice(start, start + len(row)), *(slice(0, size) for size in row.shape[1:]))
        mixed[part] = signal * row + noise * torch.from_numpy(drawn).to(row)
        start += len(row)
    return mixed
