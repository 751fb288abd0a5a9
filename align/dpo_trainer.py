"""DPO and its kin: pairs of a chosen and a rejected answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from .card import Paper
from .config import DPOConfig
from .trainer import PreferenceTrainer

PAPER = Paper(
    method="DPO",
    title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    authors="Rafailov et al.",
    year=2023,
    arxiv="2305.18290",
)


class DPOTrainer(PreferenceTrainer):
    """Trains on pairs: `DPOTrainer("model", DPOConfig("out"), train_dataset=rows).train()`.

    Args:
        model: Hub id or folder, or a model.
        args: The options, which name the loss.
        **others: Of `PreferenceTrainer`.
    """

    def __init__(self, model: str | Path | nn.Module, args: DPOConfig, **others: Any) -> None:
        super().__init__(model, args, loss=args.loss(), paper=PAPER, **others)
