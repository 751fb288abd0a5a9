"""Sampling whose noise belongs to the question, not to the batch it happens to run in.

Gumbel 1954, Yellott 1977: the argmax of `log p + G` with independent standard Gumbel `G` is a
sample of `p`. The noise of one step is drawn from a generator keyed by (seed, item, step), so an
answer does not depend on its batch, its order, the device, or on what a resumed run skipped.

The generator is numpy's counter-based Philox with a 128-bit key: torch's CPU generator keeps only
the lower 32 bits of its seed, where keys of a large run collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from contralign.decoding import Decoding


class KeyedSampling(LogitsProcessor):
    """`scores / temperature + Gumbel(seed, step)`, for `generate(do_sample=False)`.

    It comes last of the processors: its argmax is an exact sample of `softmax(scores /
    temperature)`. Beam search and assisted decoding have no use for it. Two methods that answer the
    same item get the same noise, which makes their difference less noisy.

    Args:
        seeds: One for each row of the batch, see `item_seed`.
        prompt_length: Width of the batch's prompts: what lies beyond counts the steps.
        temperature: Above 0.
    """

    def __init__(self, seeds: Sequence[int], prompt_length: int, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(
                f"temperature is above 0, got {temperature}. Use @greedy for the limit at 0."
            )
        self.seeds = tuple(seeds)
        self.prompt_length = prompt_length
        self.temperature = temperature

    def __call__(
        self, input_ids: Int[Tensor, "row time"], scores: Float[Tensor, "row vocab"]
    ) -> Float[Tensor, "row vocab"]:
        if len(scores) != len(self.seeds):
            raise ValueError(
                f"KeyedSampling has seeds for {len(self.seeds)} rows, got {len(scores)} rows. "
                "Use num_beams=1 and num_return_sequences=1."
            )
        step = input_ids.shape[1] - self.prompt_length
        noise = torch.stack([gumbel(seed, step, scores.shape[1]) for seed in self.seeds])
        return scores / self.temperature + noise.to(scores)


def search_options(decoding: Decoding, seeds: Sequence[int], width: int) -> dict[str, Any]:
    """Options of `generate`; a sample is the argmax of scores with each item's own noise.

    Args:
        decoding: Its search.
        seeds: One for each row.
        width: Of the batch's prompts.
    """
    if decoding.search != "sample":
        return decoding.generate_kwargs()
    noise = LogitsProcessorList([KeyedSampling(seeds, width)])
    return {"do_sample": False, "num_beams": 1, "logits_processor": noise}


def item_seed(seed: int, item: str) -> int:
    """Mix a run's seed and an item's id into a number of 63 bits."""
    return _digest(seed, item) >> 65


def gumbel(seed: int, step: int, size: int) -> Float[Tensor, " size"]:
    """Draw standard Gumbel noise: the same arguments give the same noise everywhere."""
    generator = np.random.Generator(np.random.Philox(key=_digest(seed, step)))
    # Gumbel's upper tail, the one that decides, comes from small exponentials, where log1p is
    # exact; only u = 0 needs the floor.
    exponential = np.maximum(-np.log1p(-generator.random(size)), np.finfo(np.float64).tiny)
    return torch.from_numpy(-np.log(exponential))


def _digest(*key: int | str) -> int:
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=16).digest(), "big")
