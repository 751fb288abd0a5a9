"""HyPO: DPO on pairs, held to the reference on samples that the policy draws at each update."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .batch import Batch
from .card import Paper
from .hypo_config import HyPOConfig
from .online import Online
from .paths import part
from .trainer import PreferenceTrainer

PAPER = Paper(
    method="HyPO",
    title="The Importance of Online Data: Understanding Preference Fine-tuning via Coverage",
    authors="Song et al.",
    year=2024,
    arxiv="2406.01462",
)


class HyPOTrainer(Online, PreferenceTrainer):
    """Trains on pairs, and on samples of the policy that nobody scores.

    Prompt, chosen, rejected and samples of a prompt are scored in one packed row.

    Args:
        model: Hub id or folder, or a model.
        args: The options.
        **others: Of `PreferenceTrainer`.
    """

    def __init__(self, model: str | Path | nn.Module, args: HyPOConfig, **others: Any) -> None:
        super().__init__(model, args, loss=args.loss(), paper=PAPER, **others)
        self._prepare_sampling()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute this process's share of an update's loss; see `PreferenceTrainer`."""
        drawn: Batch | None = inputs.get("samples")
        if drawn is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        batch: Batch = inputs["batch"]
        real, online = inputs.get("real", len(batch)), len(drawn)
        counted = max(1, min(real, online))
        sampled = with_samples(part(batch, range(online)), drawn, real / counted)
        first = {**inputs, "batch": sampled, "real": min(real, online)}
        loss = super().compute_loss(model, first, return_outputs, num_items_in_batch)
        if online == len(batch):
            return loss
        rest = part(batch, range(online, len(batch)))
        others = {"batch": rest, "real": max(0, real - online)}
        return loss + super().compute_loss(model, others, return_outputs, num_items_in_batch)

    def _sample(self, inputs: dict[str, Any], moment: str) -> None:
        batch = inputs["batch"]
        count = min(self.args.online_prompts or len(batch), len(batch))
        inputs["samples"], inputs["told"] = self._drawn(part(batch, range(count)), moment)


def with_samples(batch: Batch, drawn: Batch, weight: float) -> Batch:
    """Put samples behind the completions of their prompts.

    Args:
        batch: Pairs.
        drawn: The same prompts with samples.
        weight: How often each prompt's samples count: all prompts by those that got some.
    """
    groups = zip(batch.completions, drawn.completions, strict=True)
    counts = {"online": torch.full((len(batch),), weight)} if weight != 1 else {}
    return replace(
        batch,
        completions=[[*own, *samples] for own, samples in groups],
        columns={**batch.columns, **counts},
        sampled=drawn.k,
    )
