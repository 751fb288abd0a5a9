"""A reference that follows the policy.

Gorbatovski et al. 2024, "Learn Your Reference Model for Real Good Alignment" (TR-DPO), arXiv
2404.09656: every tau updates `pi_ref <- alpha * pi + (1 - alpha) * pi_ref`, mixed in the weights;
alpha 1 is its hard update. Under LoRA (ours; TRL refuses it) the factors A and B are mixed: that is
the mix of their products only where alpha is 1.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from contralign.decoding.checks import fraction, whole

from .references import FrozenReference, Reference, SharedReference

FILE = "reference.safetensors"


class ReferenceSync(TrainerCallback):
    """Mixes the policy into the reference every so many updates.

    Args:
        reference: A copy of the policy's adapter, or a model of the policy's architecture.
        policy: The policy's model, not wrapped.
        alpha: The policy's share, TRL's `ref_model_mixup_alpha`.
        steps: Updates between two times, TRL's `ref_model_sync_steps`.

    Raises:
        ValueError: The reference can't follow, or alpha or steps are out of range.
    """

    def __init__(
        self, reference: Reference | None, policy: nn.Module, *, alpha: float, steps: int
    ) -> None:
        fraction("ref_model_mixup_alpha", alpha)
        whole("ref_model_sync_steps", steps, 1)
        self._alpha, self._steps = alpha, steps
        self._policy: Any = policy
        self._reference = reference
        ours, theirs = self._weights()
        shapes = [{name: x.shape for name, x in side.items()} for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "sync_ref_model mixes weights of one shape, but policy and reference differ. Set "
                "reference: base with full fine-tuning, or adapter with PEFT."
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse weights that were split since.

        Raises:
            ValueError: FSDP or DeepSpeed ZeRO-3 has split them.
        """
        if any(hasattr(p, "ds_id") or isinstance(p, DTensor) for p in self._policy.parameters()):
            raise ValueError(
                "sync_ref_model needs whole weights on each process, but FSDP or DeepSpeed ZeRO-3 "
                "has split them. Train with DDP or ZeRO-2, or without sync_ref_model."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._steps == 0:
            self.mix()

    @torch.no_grad()
    def mix(self) -> None:
        """Move the reference towards the policy once."""
        ours, theirs = self._weights()
        for name, reference in theirs.items():
            reference.lerp_(ours[name].to(reference), self._alpha)

    def save(self, folder: Path) -> None:
        """Write the reference into a checkpoint's folder, which without it can't go on."""
        _, theirs = self._weights()
        whole = {name: x.detach().cpu().clone().contiguous() for name, x in theirs.items()}
        temporary = folder / f".{FILE}.{os.getpid()}"
        save_file(whole, temporary)
        os.replace(temporary, folder / FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Go on with the reference of a checkpoint.

        Raises:
            OSError: The checkpoint has none.
            ValueError: It is another model's.
        """
        if not (folder / FILE).is_file():
            raise OSError(
                f"{folder} holds no {FILE}, so its run had no sync_ref_model. Resume it without."
            )
        saved, (_, theirs) = load_file(folder / FILE), self._weights()
        if {k: x.shape for k, x in saved.items()} != {k: x.shape for k, x in theirs.items()}:
            raise ValueError(f"{folder / FILE} is of another model. Resume with the run's own.")
        for name, reference in theirs.items():
            reference.copy_(saved[name])

    def _weights(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The tensors of policy and reference, by common names; they are the live ones."""
        policy, reference = self._policy, self._reference
        if isinstance(reference, FrozenReference):
            return dict(policy.named_parameters()), dict(reference.engine.model.named_parameters())
        if isinstance(reference, SharedReference) and reference.adapter is not None:
            active, other = (
                get_peft_model_state_dict(policy, adapter_name=name, save_embedding_layers=False)
                for name in (policy.active_adapter, reference.adapter)
            )
            return active, other
        raise ValueError(
            "sync_ref_model needs a reference with weights that can move, but this one is the base "
            "under the policy's adapter, the cache, or none. Set reference: adapter with PEFT, or "
            "base with full fine-tuning."
        )
