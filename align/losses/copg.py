"""CoPG: a policy gradient from pairs, or groups, of scored completions, whoever wrote them.

Flet-Berliac et al. 2024, "Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a
supervised-friendly fashion", arXiv 2406.19185, EMNLP 2024. The gradient is that of Eq. 7-9 with the
opposite sign, to be minimised; of k completions that of RLOO with the regularised reward (Eq. 65).
The value is ours: the paper's differs from it by a constant, and here 0 is the optimum,
`pi = pi_ref * exp(R / beta) / Z`. One completion with a baseline is ours too, its gradient
`-(R - beta * h - baseline) * grad log pi`.
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
from .ratios import ranking_metrics, refuse_margins, token_log_ratios


@dataclass(frozen=True)
class CoPG:
    """`k / (2 * beta)` times the variance of `R_j - beta * h_j` over a prompt's k completions.

    Of pairs that is `(beta * (h - h') - (R - R')) ** 2 / (2 * beta)`; of one completion
    `(R - beta * h - baseline) ** 2 / (2 * beta)`. `h` is a completion's log-ratio to the reference,
    summed over its tokens, `R` its score, from the column `scores`.

    Attributes:
        beta: How hard the policy is held to the reference; the paper's best, 0.06, is of rewards
            of about 1 (it tried 0.03 to 0.1).
    """

    needs_reference: ClassVar[bool] = True

    beta: float = 0.06

    def __post_init__(self) -> None:
        positive("beta", self.beta)

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        refuse_margins(batch, "CoPG")
        rewards = self.beta * token_log_ratios(policy, reference, batch).sum(-1)
        scores = _scores(batch).to(rewards)
        errors = scores - rewards
        if batch.k == 1:
            errors = errors - batch.columns["baseline"].to(errors)[:, None]
        else:
            errors = _differences(errors) / (batch.k - 1) ** 0.5
        loss = errors.square().sum(-1) / (2 * self.beta)
        return loss, _metrics(rewards.detach(), scores)


def _differences(x: Float[Tensor, "prompts k"]) -> Float[Tensor, "prompts twos"]:
    """Between all twos: their squares' sum is `k * (k - 1)` times the unbiased variance."""
    first, second = torch.triu_indices(x.shape[1], x.shape[1], 1).to(x.device)
    return x[:, first] - x[:, second]


def _metrics(rewards: Float[Tensor, "prompts k"], scores: Float[Tensor, "prompts k"]) -> Metrics:
    """How implicit rewards and scores go together; the moments are within prompts."""
    told: Metrics = {"scores/mean": scores.mean(-1)}
    if rewards.shape[1] == 1:
        return {**told, "rewards/mean": rewards.mean(-1)}
    implied, given = _differences(rewards), _differences(scores)
    return {
        **ranking_metrics(rewards, scores),
        **told,
        "scores/variance": given.square().mean(-1),
        "rewards/variance": implied.square().mean(-1),
        "rewards/covariance": torch.where(given == 0, 0, implied * given).mean(-1),
    }


def _scores(batch: Batch) -> Float[Tensor, "prompts k"]:
    if "scores" not in batch.columns:
        raise ValueError(
            "CoPG learns from a score for each completion, got a batch without the column scores. "
            "Score the data, or pass a reward."
        )
    if batch.k == 1 and "baseline" not in batch.columns:
        raise ValueError(
            "one completion of a prompt has nothing to be compared with, got no column baseline. "
            "Add it (an estimate of the prompt's mean score), or more completions."
        )
    if batch.k > 1 and "baseline" in batch.columns:
        raise ValueError(
            f"a baseline is of one completion a prompt, got {batch.k}, which are each other's. "
            "Remove the column."
        )
    return batch.columns["scores"]
