"""A hinge on the same reward difference as DPO's: pairs that are apart enough have no gradient.

Zhao et al. 2023, "SLiC-HF: Sequence Likelihood Calibration with Human Feedback", arXiv 2305.10425,
has the hinge on log-probs; Liu et al. 2023, "Statistical Rejection Sampling Improves Preference
Optimization", arXiv 2309.06657, on log-ratios to a reference (hinge-norm), which is this and TRL's.
Reference-free, it is beta times SLiC's with the margin `delta = 1 / beta`. SLiC's second term, the
likelihood of the reference answers, is left out, as in TRL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.decoding.checks import positive

from ..batch import Batch
from .loss import Metrics
from .ratios import pair_log_ratios, refuse_margins, reward_metrics


@dataclass(frozen=True)
class Hinge:
    """`max(0, 1 - beta * (h_chosen - h_rejected))`.

    `h` is a completion's log-ratio to the reference, summed over its tokens.

    Attributes:
        beta: One over the difference, in nats, from which on a pair is left alone.
    """

    needs_reference: ClassVar[bool] = True

    beta: float = 0.1

    def __post_init__(self) -> None:
        positive("beta", self.beta)

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        refuse_margins(batch, "the hinge loss")
        ratios = pair_log_ratios(policy, reference, batch)
        loss = torch.relu(1 - self.beta * (ratios[:, 0] - ratios[:, 1]))
        return loss, reward_metrics(self.beta, ratios)
