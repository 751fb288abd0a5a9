"""Adaptive plausibility constraint, and the affine contrast that most rules share.

Li et al. 2022, "Contrastive Decoding: Open-ended Text Generation as Optimization",
arXiv 2210.15097.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .checks import fraction
from .method import Logits


def plausible(expert: Logits, cutoff: float | None) -> Bool[Tensor, "*rows vocab"]:
    """Find the tokens worth contrasting: `l_v >= log(cutoff) + max(l)`.

    Args:
        expert: Raw logits of the main branch; `-inf` marks a forbidden token.
        cutoff: Least share of the best token's probability, in (0, 1]; None keeps all
            that is allowed.

    Returns:
        True on the plausible tokens: the best one of each row at least, a forbidden one never.

    Raises:
        ValueError: The cutoff lies outside (0, 1].
    """
    if cutoff is None:
        return ~expert.isneginf()
    fraction("cutoff", cutoff)
    threshold = expert.amax(dim=-1, keepdim=True) + math.log(cutoff)
    # The clamp tells -inf apart from the best token where a row forbids every token.
    return expert >= threshold.clamp(min=torch.finfo(expert.dtype).min)


def lifted(contrast: Logits) -> Logits:
    """Give every token a finite score: a forbidden one counts as its row's smallest finite value.

    Subtracting `-inf` would make the very token that the contrast rules out the best one. A row
    that forbids every token says nothing: it counts as all zeros.

    Args:
        contrast: Logits or log-probs of a contrast branch.

    Returns:
        The same with `-inf` replaced.
    """
    smallest = torch.where(contrast.isneginf(), math.inf, contrast).amin(dim=-1, keepdim=True)
    return contrast.maximum(smallest.masked_fill(smallest.isposinf(), 0))


def contrasted(expert: Logits, contrast: Logits, alpha: float | Float[Tensor, "*rows 1"]) -> Logits:
    """Move away from the contrast: `(1 + alpha) * l - alpha * l'`.

    Args:
        expert: Raw logits of the main branch; what it forbids stays forbidden.
        contrast: Raw logits of the other branch; see `lifted` for what it forbids.
        alpha: Strength, above -1: one number, or one for each row.

    Returns:
        Un-normalised scores, `-inf` exactly where `expert` is.
    """
    return (1 + alpha) * expert - alpha * lifted(contrast)


def apart(expert: Logits, contrast: Logits) -> Logits:
    """How far the expert is from the contrast, `l - l'`: finite, whatever either forbids."""
    return lifted(expert) - lifted(contrast)
