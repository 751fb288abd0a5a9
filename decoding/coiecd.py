"""COIECD contrasts from the memory's side, except where the context is in conflict with it.

Yuan et al. 2024, "Discerning and Resolving Knowledge Conflicts through Adaptive Decoding with
Contextual Information-Entropy Constraint", arXiv 2402.11893. The constraint bounds
`log_softmax(-log p_context - H)`, H the entropy without the context. H is the same for every token,
so the softmax takes it out again: it is left uncomputed, and the bounds are put on `log p_context`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from .checks import at_least
from .divergence import log_probs
from .method import Logits, Method
from .plausible import lifted

# How near an end of the row's range a token must lie to be in conflict.
MARGIN = math.log(4)


@dataclass(frozen=True)
class COIECD(Method):
    """`base + alpha * (log p_context - log p_no_context)`.

    `base` is `log p_context` for a token in conflict, whose probability with the context is above a
    quarter of its row's largest or below four times its smallest; for the others `log
    p_no_context`.

    Attributes:
        alpha: Strength of the contrast.
    """

    paper: ClassVar[str] = "Yuan et al. 2024, arXiv 2402.11893"

    alpha: float = 1.0

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        # Lifted twice: a forbidden token must neither set the lower bound nor become infinite.
        context, memory = lifted(log_probs(expert)), lifted(log_probs(contrast))
        base = torch.where(_in_conflict(context), context, memory)
        scores = base + self.alpha * (context - memory)
        return scores.masked_fill(expert.isneginf(), -math.inf)


def _in_conflict(logps: Logits) -> Bool[Tensor, "*rows vocab"]:
    largest = logps.amax(dim=-1, keepdim=True)
    smallest = logps.amin(dim=-1, keepdim=True)
    return (logps > largest - MARGIN) | (logps < smallest + MARGIN)
