"""Random numbers that depend on an example's seed and on what they are for, and on nothing else."""

from __future__ import annotations

import numpy as np


def generator(seed: int, use: str) -> np.random.Generator:
    """Start the stream of one use: two uses of one seed draw independently.

    Args:
        seed: An example's, 0 or more.
        use: What the numbers are for.
    """
    return np.random.default_rng([seed, *use.encode()])
