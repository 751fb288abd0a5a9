"""DPO fits a preference model whose rewards are the policy's log-ratios to a reference.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward
Model", arXiv 2305.18290, Eq. 7. With label smoothing it is the conservative DPO of Mitchell 2023,
"A note on DPO with noisy preferences & relationship to IPO": the labels are wrong with a given
probability. With a margin for each example it is ODPO, Amini et al. 2024, "Direct Preference
Optimization with an Offset", arXiv 2402.10571, whose offset is taken from the data as it stands.
Together (ours), a pair whose label is wrong has the margin's opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from contralign.decoding.checks import number, positive

from ..batch import Batch
from .loss import Metrics
from .ratios import pair_log_ratios, reward_metrics


@dataclass(frozen=True)
class DPO:
    """`-(1 - e) * logsigmoid(x) - e * logsigmoid(-x)`, with ODPO's margin in `x`.

    `x = beta * (h_chosen - h_rejected) - margin`, `h` a completion's log-ratio to the reference,
    summed over its tokens.

    Attributes:
        beta: How hard the policy is held to the reference; the paper's 0.1, for summaries 0.5.
        label_smoothing: The probability `e` that a label is wrong, below 0.5.
    """

    needs_reference: ClassVar[bool] = True

    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        positive("beta", self.beta)
        if not 0 <= number("label_smoothing", self.label_smoothing) < 0.5:
            raise ValueError(
                f"label_smoothing must lie in [0, 0.5), got {self.label_smoothing!r}. It is the "
                "share of labels that are wrong; from a half on they say nothing."
            )

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        ratios = pair_log_ratios(policy, reference, batch)
        advantage = self.beta * (ratios[:, 0] - ratios[:, 1])
        if "margin" in batch.columns:
            advantage = advantage - batch.columns["margin"].to(advantage)
        loss = -F.logsigmoid(advantage)
        # Not multiplied by 0: at an infinite advantage that would be NaN.
        if self.label_smoothing:
            flipped = -F.logsigmoid(-advantage)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * flipped
        return loss, reward_metrics(self.beta, ratios)
