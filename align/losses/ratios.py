"""Log-ratios of policy to reference, which every preference loss is a function of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..batch import Batch
from .loss import Metrics


def token_log_ratios(
    policy: Float[Tensor, "prompts k tokens"],
    reference: Float[Tensor, "prompts k tokens"] | None,
    batch: Batch,
) -> Float[Tensor, "prompts k tokens"]:
    """Compute `log pi - log pi_ref` of each token.

    Args:
        policy: The policy's log-probs of each token, in nats.
        reference: The reference's; None takes 0 for each.
        batch: What was scored. What stands on its padding isn't read.

    Returns:
        Nats, at least in float32, zero on the padding.
    """
    ratios = policy.to(torch.promote_types(policy.dtype, torch.float32))
    if reference is not None:
        ratios = ratios - reference.to(ratios)
    return torch.where(batch.mask.to(ratios.device), ratios, 0)


def pair_log_ratios(
    policy: Float[Tensor, "prompts k tokens"],
    reference: Float[Tensor, "prompts k tokens"] | None,
    batch: Batch,
) -> Float[Tensor, "prompts two"]:
    """Sum `log pi(y|x) - log pi_ref(y|x)` over the tokens of chosen and rejected.

    Args:
        policy: The policy's log-probs of each token, in nats.
        reference: The reference's; None takes 0 for each.
        batch: What was scored.

    Returns:
        Nats per completion, at least in float32.

    Raises:
        ValueError: The examples aren't pairs.
    """
    if batch.k != 2:
        raise ValueError(
            "this loss compares pairs of a chosen and a rejected completion of each prompt, got "
            f"{batch.k} completions a prompt. Make pairs of them."
        )
    return token_log_ratios(policy, reference, batch).sum(-1)


def reward_metrics(beta: float, ratios: Float[Tensor, "prompts two"]) -> Metrics:
    """Read off the implicit rewards, `beta` times the log-ratio.

    Args:
        beta: Of the loss.
        ratios: What `pair_log_ratios` returns.

    Returns:
        Each example's `rewards/chosen`, `rewards/rejected`, `rewards/margins` (chosen less
        rejected) and `rewards/accuracies` (1 where chosen has the higher one, else 0), detached.
    """
    chosen, rejected = (beta * ratios.detach()).unbind(-1)
    return {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
    }


def ranking_metrics(
    rewards: Float[Tensor, "prompts k"], scores: Float[Tensor, "prompts k"]
) -> Metrics:
    """Hold implicit rewards against an order; of pairs it is what `reward_metrics` says.

    Args:
        rewards: Implicit ones.
        scores: Higher is better; equal ones have no order.

    Returns:
        Each example's `rewards/chosen` and `rewards/rejected`, of the first and the last one;
        `rewards/margins`, by how much the better of two completions is ahead, the mean over all
        twos; and `rewards/accuracies`, the share of twos in the right order, a half where no two
        have one. Detached.
    """
    rewards = rewards.detach()
    first, second = torch.triu_indices(rewards.shape[1], rewards.shape[1], 1).to(rewards.device)
    better = torch.sign(scores[:, first] - scores[:, second]).to(rewards)
    ahead = torch.where(better == 0, 0, better * (rewards[:, first] - rewards[:, second]))
    ordered = better.abs().sum(-1)
    right = (ahead > 0).to(rewards).sum(-1) / ordered.clamp(min=1)
    return {
        "rewards/chosen": rewards[:, 0],
        "rewards/rejected": rewards[:, -1],
        "rewards/margins": ahead.mean(-1),
        "rewards/accuracies": torch.where(ordered > 0, right, 0.5),
    }


def refuse_margins(batch: Batch, loss: str) -> None:
    """Refuse a column that the loss has no place for.

    Raises:
        ValueError: The batch has margins.
    """
    if "margin" in batch.columns:
        raise ValueError(
            f"{loss} is not defined with a margin for each example, but the data has a margin "
            "column. Train with DPO's loss_type sigmoid, or remove the column."
        )
