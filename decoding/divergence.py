"""Log-probs and how far two of them are apart, in nats and exact where tokens are forbidden."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .method import Logits


def log_probs(logits: Logits) -> Logits:
    """Normalise each row; one that forbids every token says nothing and counts as uniform.

    Args:
        logits: Any un-normalised scores; `-inf` marks a forbidden token.

    Returns:
        Nats per token; `-inf` where the token is forbidden.
    """
    silent = logits.amax(dim=-1, keepdim=True).isneginf()
    return logits.masked_fill(silent, 0).log_softmax(dim=-1)


def jsd(first: Logits, second: Logits) -> Float[Tensor, "*rows"]:
    """Jensen-Shannon divergence of each row: `KL(p || m) / 2 + KL(q || m) / 2`, `m = (p + q) / 2`.

    Args:
        first: Log-probs `log p`.
        second: Log-probs `log q`.

    Returns:
        Nats, from 0 (equal) to log 2 (no token in common).
    """
    p, q = first.exp(), second.exp()
    middle = (p + q) / 2
    terms = (_weighted(p, first) + _weighted(q, second)) / 2 - _weighted(middle, middle.log())
    # Equal rows round to a few 1e-8 on either side of zero.
    return terms.sum(dim=-1).clamp(0, math.log(2))


def _weighted(weights: Logits, logps: Logits) -> Logits:
    # 0 * log 0 = 0: with -inf it would be NaN.
    return weights * logps.clamp(min=torch.finfo(logps.dtype).min)
