"""Before the first update: does training start as it should, and if not, why?

Where the reference is the policy at that moment, every log-ratio is 0 and the loss is the loss at 0
(log 2 for sigmoid); and something that is trained has a gradient. "Rewards stuck at 0" is one of
these broken.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from .batch import Batch
from .losses import Loss
from .policy import active_dropout, comes_with_adapter
from .start import Start
from .stop import TrainingError

FLOAT32_TOLERANCE, HALF_TOLERANCE = 1e-3, 0.05


def check_start(
    start: Start,
    loss: Loss,
    policy: Float[Tensor, "prompts k tokens"],
    reference: Float[Tensor, "prompts k tokens"] | None,
    batch: Batch,
    model: nn.Module,
) -> str | None:
    """Check the first batch.

    Args:
        start: What is known.
        loss: What is trained with.
        policy: The policy's log-probs, as training computes them.
        reference: The reference's.
        batch: What was scored.
        model: The policy, for the reasons.

    Returns:
        What looks odd but may be meant.

    Raises:
        TrainingError: The reference isn't what it must be.
    """
    if reference is None:
        return None
    apart = float((policy - reference).abs()[batch.mask.to(policy.device)].mean())
    value, expected = (
        float(loss(logps, reference, batch)[0].mean()) for logps in (policy, reference)
    )
    tolerance = HALF_TOLERANCE if start.half else FLOAT32_TOLERANCE
    close = apart <= tolerance and abs(value - expected) <= tolerance * (1 + abs(expected))
    if start.equal and not close:
        raise TrainingError(
            "before the first update policy and reference must be the same, but their log-probs "
            f"are {apart:.2g} nats a token apart and the loss is {value:.4f}, not {expected:.4f}. "
            f"{_why_apart(start, model)} Or set self_check: false."
        )
    if start.equal or apart != 0:
        return None
    return (
        f"the reference, {start.reference}, gives exactly the policy's log-probs. If it isn't the "
        "model that training starts from, it is the policy by mistake."
    )


def check_gradient(norm: Tensor | float, start: Start) -> None:
    """Check the first update's gradient.

    Raises:
        TrainingError: It's zero, so that nothing would be learned.
    """
    if float(norm) != 0:
        return
    layers = (
        "the adapter sits on layers that aren't run (lora_target_modules), or both of its matrices "
        "start at 0"
        if start.adapter
        else "what is trained (requires_grad) isn't run"
    )
    raise TrainingError(
        "the first update's gradient is exactly 0, so nothing would be learned. Usual reasons: "
        f"{layers}; chosen and rejected answers that are the same; scores that are; weights that "
        "are all 0; a hinge that every pair already satisfies. Or set self_check: false."
    )


def _why_apart(start: Start, model: nn.Module) -> str:
    dropping = active_dropout(model)
    if dropping:
        return (
            f"Dropout is on ({dropping[0]} and {len(dropping)} in all): set disable_dropout: true."
        )
    if start.adapter and start.reference in ("base", "cached") and comes_with_adapter(model):
        return (
            f"The adapter already changes what the model says, and reference: {start.reference} is "
            "the model without it. If training goes on from that adapter, set reference: adapter."
        )
    return (
        "Something in the model is random or changes from one forward to the next; try "
        "log_prob_path: padded."
    )
