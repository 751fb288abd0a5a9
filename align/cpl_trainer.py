"""CPL: pairs or rankings, with a warm-up that imitates the chosen answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from .card import Paper
from .cpl_config import CPLConfig
from .losses import Cloning, Loss
from .trainer import PreferenceTrainer

PAPER = Paper(
    method="CPL",
    title="Contrastive Preference Learning: Learning from Human Feedback without RL",
    authors="Hejna et al.",
    year=2023,
    arxiv="2310.13639",
)


class CPLTrainer(PreferenceTrainer):
    """Trains on pairs, or on k answers to a prompt, best first.

    Args:
        model: Hub id or folder, or a model.
        args: The options.
        **others: Of `PreferenceTrainer`.
    """

    lr_scheduler: Any

    def __init__(self, model: str | Path | nn.Module, args: CPLConfig, **others: Any) -> None:
        loss = args.loss()
        super().__init__(model, args, loss=loss, paper=PAPER, **others)
        self.warm_up = Cloning(loss)
        if args.bc_steps:
            self.add_callback(FreshOptimizer(args.bc_steps))

    def _loss(self, training: bool) -> Loss:
        cloning = training and self.state.global_step < self.args.bc_steps
        return self.warm_up if cloning else self.loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Schedule the updates after the warm-up, in which the rate is constant.

        Raises:
            ValueError: There are none, or the schedule isn't one of steps alone.
        """
        after = self.args.updates_after_cloning(num_training_steps)
        own = self.lr_scheduler is not None
        schedule = super().create_scheduler(after, optimizer)
        if not self.args.bc_steps:
            return schedule
        if own or not isinstance(schedule, LambdaLR):
            given = "one of your own" if own else self.args.lr_scheduler_type.value
            raise ValueError(
                "bc_steps starts the schedule of steps anew, which isn't possible with "
                f"lr_scheduler_type {given}. Take another, or set bc_steps: 0."
            )
        rates = [_delayed(rate, self.args.bc_steps) for rate in schedule.lr_lambdas]
        for group in schedule.optimizer.param_groups:
            group["lr"] = group.pop("initial_lr")
        self.lr_scheduler = LambdaLR(schedule.optimizer, rates)
        return self.lr_scheduler


class FreshOptimizer(TrainerCallback):
    """Lets the optimizer forget all at one update.

    Args:
        steps: Updates before.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._steps:
            kwargs["optimizer"].state.clear()


def _delayed(rate: Callable[[int], float], steps: int) -> Callable[[int], float]:
    return lambda step: 1.0 if step < steps else rate(step - steps)
