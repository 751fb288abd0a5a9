"""The same losses and rewards from TRL's own DPOTrainer, whose method runs here on a stand-in."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pair_batches import logps, pairs
from torch import Tensor
from torch.nn import functional as F
from trl import DPOTrainer

from contralign.align.losses import LOSSES

LENGTHS = [(3, 5), (1, 1), (7, 2)]
PROMPT = 2


def _trl(loss_type: str, beta: float, policy: Tensor, reference: Tensor) -> tuple[float, Any]:
    """Run `DPOTrainer._compute_loss` on given log-probs, chosen rows before rejected ones."""
    mask = torch.cat(pairs(LENGTHS).mask.unbind(1)).long()
    completion_mask = F.pad(mask, (PROMPT, 0))
    zeros = torch.zeros(completion_mask.shape)[:, 1:]
    outputs = SimpleNamespace(
        log_probs=F.pad(torch.cat(policy.unbind(1)), (PROMPT - 1, 0)),
        entropy=zeros,
        mean_logits=zeros,
        is_top1=zeros.bool(),
    )
    ref_chosen, ref_rejected = reference.sum(-1).unbind(1)
    inputs = {
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
        "completion_mask": completion_mask,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=0.0,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss.item(), {key: value[0] for key, value in trainer._metrics["train"].items()}


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "hinge"])
@pytest.mark.parametrize("beta", [0.05, 0.7])
def test_equals_trl(name: str, beta: float) -> None:
    policy, reference = logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, metrics = LOSSES[name](beta=beta)(policy, reference, pairs(LENGTHS))
    expected, logged = _trl(name, beta, policy, reference)
    assert loss.mean().item() == pytest.approx(expected, rel=1e-9)
    for key, value in metrics.items():
        assert value.mean().item() == pytest.approx(logged[key], rel=1e-6)  # TRL counts in float32
