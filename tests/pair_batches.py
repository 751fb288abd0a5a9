"""Batches of made-up pairs, and log-probs for their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contralign.align.batch import Batch


def pairs(lengths: Sequence[tuple[int, int]], **columns: Any) -> Batch:
    """Pairs with completions of the given lengths; columns from lists of numbers."""
    return Batch(
        prompts=[[1, 2]] * len(lengths),
        completions=[[[3] * length for length in pair] for pair in lengths],
        columns={key: torch.tensor(values) for key, values in columns.items()},
    )


def logps(lengths: Sequence[tuple[int, int]], seed: int) -> Tensor:
    """Random log-probs in float64, zero on the padding."""
    generator = torch.Generator().manual_seed(seed)
    mask = pairs(lengths).mask
    drawn = -3 * torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    return drawn.masked_fill(~mask, 0)
