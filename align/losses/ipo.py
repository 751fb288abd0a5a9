"""IPO regresses the difference of the log-ratios on a constant, so that it never saturates.

Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences",
arXiv 2310.12036, Eq. 17, with beta for its tau. The equation sums log-probs over a completion's
tokens, and so does the code of DPO's authors; TRL, after asking the authors of IPO, averages them.
Both are here, by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from contralign.decoding.checks import positive

from ..batch import Batch
from .loss import Metrics
from .ratios import pair_log_ratios, refuse_margins, reward_metrics


@dataclass(frozen=True)
class IPO:
    """`(h_chosen - h_rejected - 1 / (2 * beta)) ** 2`.

    `h` is a completion's log-ratio to the reference.

    Attributes:
        beta: How hard the policy is held to the reference.
        average: Divide each `h` by the completion's number of tokens. Rewards are of the sums.
    """

    needs_reference: ClassVar[bool] = True

    beta: float = 0.1
    average: bool = True

    def __post_init__(self) -> None:
        positive("beta", self.beta)

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        refuse_margins(batch, "IPO")
        ratios = pair_log_ratios(policy, reference, batch)
        chosen, rejected = (
            ratios / batch.mask.sum(-1).to(ratios) if self.average else ratios
        ).unbind(-1)
        loss = (chosen - rejected - 1 / (2 * self.beta)) ** 2
        return loss, reward_metrics(self.beta, ratios)
