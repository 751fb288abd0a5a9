"""CPL learns from preferences as if they were about advantages: log-probs times alpha.

Hejna et al. 2023, "Contrastive Preference Learning: Learning from Human Feedback without RL", arXiv
2310.13639, ICLR 2024: its loss with the conservative lambda, CPL (BC), CPL (KL), and rankings after
Plackett and Luce; code: github.com/jhejna/cpl. As in that code, labels may be soft: 0.5 is a tie.
It has no discount (gamma 1), takes the mean over all twos in place of a ranking's likelihood, and
clones all segments unless told to keep to the better ones; here cloning is of chosen completions, a
mean over their tokens. Averaging S over tokens is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from contralign.decoding.checks import at_least, number, positive

from ..batch import Batch
from .loss import Metrics
from .ratios import ranking_metrics, refuse_margins, token_log_ratios

# Of the sigmoid's slope at 0 what is left where it counts as flat; ours.
SATURATED = 0.02


@dataclass(frozen=True)
class CPL:
    """`-logsigmoid(S_chosen - lambda * S_rejected)`, `S = sum_t gamma ** t * alpha * log pi(y_t)`.

    t counts a completion's tokens from 0. With a column `label`, the probability that chosen is the
    better one, both orders are weighed by it; of k > 2 completions, the best first, it is
    `sum_i logsumexp(S_i, ..., S_k) - S_i`.

    Attributes:
        alpha: Of the advantages; 0.1 on MetaWorld, which is DPO's beta too.
        gamma: The discount, in (0, 1].
        lmbda: The paper's lambda, in (0, 1], as TRL spells it: below 1 (0.5 on MetaWorld) what is
            likely under the policy is preferred, of pairs only. On summed log-probs of long texts
            the sigmoid is then flat (see `rewards/saturated`), so the default, ours, is 1.
        kl: Whether S is of log-ratios to a reference: CPL (KL).
        bc_coeff: Weight of `-log pi(chosen)`, the mean over its tokens: CPL (BC).
        average: Whether S is divided by the completion's number of tokens; ours.
    """

    alpha: float = 0.1
    gamma: float = 1.0
    lmbda: float = 1.0
    kl: bool = False
    bc_coeff: float = 0.0
    average: bool = False

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)
        _share("gamma", self.gamma)
        _share("lmbda", self.lmbda)
        at_least("bc_coeff", self.bc_coeff, 0)

    @property
    def needs_reference(self) -> bool:
        """Only CPL (KL) does."""
        return self.kl

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        refuse_margins(batch, "CPL")
        _check_group(batch, self.lmbda)
        advantages = self.advantages(policy, reference, batch)
        order = torch.arange(batch.k, 0, -1, device=advantages.device).expand(len(batch), -1)
        metrics = ranking_metrics(advantages, order.to(advantages))
        if batch.k > 2:
            loss = _plackett_luce(advantages)
        else:
            loss = self._of_pairs(advantages, batch)
            if self.lmbda < 1:
                metrics["rewards/saturated"] = self._saturated(advantages.detach())
        if self.bc_coeff:
            loss = loss + self.bc_coeff * cloning(policy, batch)
        return loss, metrics

    def advantages(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> Float[Tensor, "prompts k"]:
        """Compute each completion's `S`."""
        ratios = token_log_ratios(policy, reference if self.kl else None, batch)
        times = torch.arange(ratios.shape[-1], device=ratios.device, dtype=ratios.dtype)
        total = self.alpha * (ratios * self.gamma**times).sum(-1)
        return total / batch.mask.sum(-1).to(total) if self.average else total

    def _of_pairs(
        self, advantages: Float[Tensor, "prompts two"], batch: Batch
    ) -> Float[Tensor, " prompts"]:
        chosen, rejected = advantages.unbind(-1)
        loss = -F.logsigmoid(chosen - self.lmbda * rejected)
        if "label" not in batch.columns:
            return loss
        label = batch.columns["label"].to(loss)
        flipped = -F.logsigmoid(rejected - self.lmbda * chosen)
        # Not multiplied by 0: at an infinite advantage that would be NaN.
        return torch.where(label > 0, label * loss, 0) + torch.where(
            label < 1, (1 - label) * flipped, 0
        )

    def _saturated(self, advantages: Float[Tensor, "prompts two"]) -> Float[Tensor, " prompts"]:
        """1 where lambda's share of the logit outweighs the preference and flattens the sigmoid."""
        chosen, rejected = advantages.unbind(-1)
        bias = (1 - self.lmbda) * rejected.abs()
        slope = torch.sigmoid(chosen - self.lmbda * rejected)
        flat = 4 * slope * (1 - slope) < SATURATED
        return (flat & (bias > (chosen - rejected).abs())).to(advantages)


@dataclass(frozen=True)
class Cloning:
    """CPL's warm-up: behaviour cloning, whose metrics are those of the CPL that comes after.

    Attributes:
        then: That.
    """

    needs_reference: ClassVar[bool] = False

    then: CPL

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        with torch.no_grad():
            _, metrics = self.then(policy, reference, batch)
        return cloning(policy, batch), metrics


def cloning(policy: Float[Tensor, "prompts k tokens"], batch: Batch) -> Float[Tensor, " prompts"]:
    """Compute `-log pi` of each prompt's first completion, the mean over its tokens, in nats."""
    logps = token_log_ratios(policy, None, batch)[:, 0]
    return -logps.sum(-1) / batch.mask[:, 0].sum(-1).to(logps)


def _plackett_luce(advantages: Float[Tensor, "prompts k"]) -> Float[Tensor, " prompts"]:
    places = range(advantages.shape[1] - 1)
    left = [torch.logsumexp(advantages[:, place:], -1) for place in places]
    return (torch.stack(left, -1) - advantages[:, :-1]).sum(-1)


def _check_group(batch: Batch, lmbda: float) -> None:
    if batch.k < 2:
        raise ValueError(
            "CPL compares completions of a prompt, got one of each. Add others, best first."
        )
    if batch.k > 2 and lmbda != 1:
        raise ValueError(
            f"lmbda is of pairs, got {lmbda} with {batch.k} completions a prompt. Set it to 1, or "
            "make pairs of them."
        )
    if batch.k > 2 and "label" in batch.columns:
        raise ValueError(
            f"a label is of pairs, got {batch.k} completions a prompt. Remove the column."
        )


def _share(name: str, value: object) -> None:
    if not 0 < number(name, value) <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value!r}. 1 leaves it out.")
