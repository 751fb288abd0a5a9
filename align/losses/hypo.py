"""HyPO adds to DPO what its data can't give: a KL to the reference, on the policy's own samples.

Song et al. 2024, "The Importance of Online Data: Understanding Preference Fine-tuning via
Coverage", arXiv 2406.01462, NeurIPS 2024, Algorithm 1: DPO's loss on pairs plus lambda times
`sg(h(y)) * log pi(y|x)` on fresh samples, sg for stopped gradient, whose expected gradient is that
of `KL(pi || pi_ref)`. The leave-one-out baseline is ours: it changes the variance alone. Not
Hybrid-DPO, arXiv 2602.11902, which goes by the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from contralign.decoding.checks import at_least, one_of

from ..batch import Batch
from .dpo import DPO
from .loss import Metrics
from .ratios import token_log_ratios

BASELINES = ("none", "leave_one_out")


@dataclass(frozen=True)
class HyPO:
    """DPO on the first two completions, lambda times the KL term's mean over the samples behind.

    `h` is a completion's log-ratio to the reference, summed over its tokens; both are those at the
    samples' temperature. The term's gradient is what it is made for: its value isn't the KL, which
    `samples/kl` estimates. A batch without samples has no such term; a column `online` holds how
    often each prompt's term counts, where only some prompts got samples.

    Attributes:
        beta: DPO's.
        lmbda: The paper's lambda, 0.01 is ours.
        baseline: What is taken off `h`: nothing, as in the paper, or the mean of the prompt's other
            samples.
        label_smoothing: DPO's.
    """

    needs_reference: ClassVar[bool] = True

    beta: float = 0.1
    lmbda: float = 0.01
    baseline: Literal["none", "leave_one_out"] = "none"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        at_least("lmbda", self.lmbda, 0)
        one_of("baseline", self.baseline, BASELINES)
        self.offline()

    def offline(self) -> DPO:
        """The loss on pairs."""
        return DPO(self.beta, self.label_smoothing)

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        own = batch.k - batch.sampled
        pairs = batch.of(0, own)
        width = pairs.mask.shape[-1]
        of_pairs = None if reference is None else reference[:, :own, :width]
        loss, told = self.offline()(policy[:, :own, :width], of_pairs, pairs)
        if not batch.sampled:
            return loss, told
        ratios = token_log_ratios(policy, reference, batch)[:, own:].sum(-1)
        logps = token_log_ratios(policy, None, batch)[:, own:].sum(-1)
        online = (self._signal(ratios.detach()) * logps).mean(-1)
        if "online" in batch.columns:
            online = online * batch.columns["online"].to(online)
        lengths = batch.mask[:, own:].sum(-1).to(ratios)
        samples = {"samples/kl": ratios.detach().mean(-1), "samples/length": lengths.mean(-1)}
        return loss + self.lmbda * online, told | samples

    def _signal(self, ratios: Float[Tensor, "prompts k"]) -> Float[Tensor, "prompts k"]:
        """What each sample's log-prob is weighed by."""
        if self.baseline == "none":
            return ratios
        if ratios.shape[1] == 1:
            raise ValueError(
                "a leave-one-out baseline is the mean of a prompt's other samples, got one sample. "
                "Draw more, or set baseline: none."
            )
        others = (ratios.sum(-1, keepdim=True) - ratios) / (ratios.shape[1] - 1)
        return ratios - others
