"""Next-token logits read off early layers of the expert's own forward (DoLa)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .method import EarlyExit

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils import ModelOutput


def exit_logits(
    model: PreTrainedModel, outputs: ModelOutput, exits: Sequence[EarlyExit], count: int
) -> list[Tensor]:
    """Read the last `count` positions of each exit's layer through the LM head, in float32."""
    return [_read(model, _hidden_states(outputs)[exit_.layer][:, -count:]) for exit_ in exits]


def check_readable(model: PreTrainedModel, outputs: ModelOutput) -> None:
    """Make sure that reading the last hidden state like an early one gives the model's logits.

    Raises:
        ValueError: It does not, so early layers can't be compared with the last one.
    """
    theirs = outputs.logits[:, -1].float()
    ours = _read(model, _hidden_states(outputs)[-1][:, -1]).to(theirs.device)
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * theirs.abs().max().item()):
        raise ValueError(
            f"{type(model).__name__} does something to its last hidden state that its LM head does "
            "not, so an early layer's logits would not be comparable. DoLa works on models whose "
            "logits are lm_head(hidden_states[-1]), scaled or capped by the config."
        )


def _read(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Apply the LM head and what the model's family does to its logits (Cohere, Granite, Gemma)."""
    head, config = model.get_output_embeddings(), model.config.get_text_config(decoder=True)
    if not head.weight.is_meta:  # accelerate's hook on an offloaded head moves its input itself
        hidden = hidden.to(head.weight.device)
    logits = head(hidden).float()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _hidden_states(outputs: ModelOutput) -> tuple[Tensor, ...]:
    states = outputs.get("hidden_states")
    return states if states is not None else outputs["decoder_hidden_states"]
