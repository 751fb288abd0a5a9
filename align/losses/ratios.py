"""Log-ratios of policy to reference, which every preference loss is a function of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..batch import Batch
from .loss import Metrics


def pair_log_ratios(
    policy: Float[Tensor, "prompts k tokens"],
    reference: Float[Tensor, "prompts k tokens"] | None,
    batch: Batch,
) -> Float[Tensor, "prompts two"]:
    """Sum `log pi(y|x) - log pi_ref(y|x)` over the tokens of chosen and rejected.

    Args:
        policy: The policy's log-probs of each token, in nats.
        reference: The reference's; None takes 0 for each.
        batch: What was scored. What stands on its padding isn't read.

    Returns:
        Nats per completion, at least in float32.

    Raises:
        ValueError: The examples aren't pairs.
    """
    if batch.k != 2:
        raise ValueError(
            "this loss compares pairs, a chosen and a rejected completion for each prompt, got "
            f"{batch.k} completions a prompt. Make pairs of them."
        )
    ratios = policy.to(torch.promote_types(policy.dtype, torch.float32))
    if reference is not None:
        ratios = ratios - reference.to(ratios)
    return torch.where(batch.mask.to(ratios.device), ratios, 0).sum(-1)


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


def refuse_margins(batch: Batch, loss: str) -> None:
    """Refuse a column that the loss has no place for.

    Raises:
        ValueError: The batch has margins.
    """
    if "margin" in batch.columns:
        raise ValueError(
            f"{loss} is not defined with a margin for each example, but the data has a margin "
            "column. Use loss_type sigmoid, or remove the column."
        )
