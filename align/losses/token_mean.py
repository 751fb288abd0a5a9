"""DCD's two losses, which share nothing: each side's answers under a projection of its own.

Chen et al. 2025, "Decoupling Contrastive Decoding", arXiv 2504.08809, of which no code is there:
the negative log-prob of an answer, averaged over its tokens, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ..batch import Batch
from .loss import Metrics


@dataclass(frozen=True)
class TokenMean:
    """`-mean_t log p(y_t)`, summed over the sides that are trained.

    Attributes:
        sides: Of "chosen" and "rejected".
    """

    needs_reference: ClassVar[bool] = False

    sides: tuple[str, ...] = ("chosen", "rejected")

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        means = -policy.sum(-1) / batch.mask.to(policy.device).sum(-1)
        found = dict(zip(batch.sides, means.unbind(1), strict=True))
        loss = sum((found[name] for name in self.sides), policy.new_zeros(len(policy)))
        return loss, {f"nll/{name}": value.detach() for name, value in found.items()}
