"""The part of a trainer that measures: lines of the log, evaluations, samples."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import logging

from .journal import Journal
from .metrics import tokens
from .reference_cache import CachedReference
from .samples import answers, append
from .sets import Sets
from .start import Start
from .stop import FiniteGuard

logger = logging.get_logger(__name__)


class Measured:
    """Mixed into a transformers `Trainer`."""

    args: Any
    accelerator: Any
    data_collator: Any
    eval_dataset: Any
    get_eval_dataloader: Any
    model: Any
    model_wrapped: Any
    state: Any
    train_dataset: Any
    guard: FiniteGuard
    journal: Journal
    reference: Any
    sets: Sets
    start: Start
    _parameters: int
    _line_step = 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line; a line of training says all that was measured since the one before."""
        if "loss" in logs:
            self.guard.check()
            updates = self.state.global_step - self._line_step
            self._line_step = self.state.global_step
            line, warnings = self.journal.training_line(self._sum, logs, updates)
            logs.update(line)
            for text in warnings:
                self._warn(text)
        super().log(logs, start_time)  # type: ignore[misc]

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate on held-out rows, in TRL's formats or prepared; see transformers.

        Returns:
            All that is measured, as means over examples, behind the prefix.
        """
        rows = self.sets.prepared(eval_dataset, metric_key_prefix)
        self.sets.release()
        self._fill_cache(rows)
        return super().evaluate(rows, ignore_keys, metric_key_prefix)  # type: ignore[misc]

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Go through a data set once; see transformers."""
        output = super().evaluation_loop(  # type: ignore[misc]
            dataloader, description, True, ignore_keys, metric_key_prefix
        )
        line = self.journal.evaluation_line(self._sum, metric_key_prefix)
        output.metrics.update({f"{metric_key_prefix}_{name}": x for name, x in line.items()})
        self._write_samples(dataloader.dataset, metric_key_prefix)
        return output

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Estimate as transformers does: 6 for each parameter and token."""
        return 6 * tokens(inputs["batch"]) * self._parameters

    def _evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        with self.journal.pause():
            return super()._evaluate(*args, **options)  # type: ignore[misc]

    def _write_samples(self, rows: Any, name: str) -> None:
        """Answer the first prompts; every process does, as a split model needs all of them."""
        if not self.args.eval_samples:
            return
        batch = self.data_collator(list(islice(rows, self.args.eval_samples)))["batch"]
        with self.accelerator.autocast():
            said = answers(
                self.model,
                batch,
                self.sets.tokenizer.decode,
                max_new_tokens=self.args.eval_samples_max_new_tokens,
            )
        if self.args.should_save:
            append(Path(self.args.output_dir), self.state.global_step, name, said)

    def _prepare_for_training(self, *args: Any, **options: Any) -> Any:
        if self.model_wrapped is self.model:
            # Left by an evaluation before; accelerate would then not let processes train together.
            vars(self.model).pop("_is_accelerate_prepared", None)
        prepared = super()._prepare_for_training(*args, **options)  # type: ignore[misc]
        self._fill_cache()
        self._line_step = self.state.global_step
        if self.state.global_step == 0:
            self.log(dict(self.sets.numbers()))
        return prepared

    def _fill_cache(self, more: Any = None) -> None:
        """With full fine-tuning, what is cached must be computed while the policy is its base.

        Args:
            more: Rows beside those of the trainer, prepared, or several sets by name.
        """
        cached = isinstance(self.reference, CachedReference)
        if not cached or self.start.adapter or self.state.global_step > 0:
            return
        rows = [self.train_dataset]
        for held_out in (self.eval_dataset, more):
            rows += held_out.values() if isinstance(held_out, dict) else [held_out]
        with torch.random.fork_rng():
            for one in rows:
                if one is not None and not isinstance(one, str):
                    loader = self.get_eval_dataloader(one)
                    batches = (inputs["batch"] for inputs in loader)
                    self.reference.fill(batches, through=self.model_wrapped)

    def _sum(self, tensor: Tensor) -> Tensor:
        """Add up over all processes."""
        if self.accelerator.num_processes == 1:
            return tensor
        return self.accelerator.reduce(tensor.to(self.accelerator.device), "sum")

    def _warn(self, text: str) -> None:
        if self.args.process_index == 0:
            logger.warning(text)
