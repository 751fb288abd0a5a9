"""Preference training on transformers' `Trainer`: a loss is a value, a trainer is a loop.

The loss of an update is `sum_i w_i * loss_i / n` over all n examples of its micro-batches on all
processes, so batch 8 is 4 accumulated twice is two processes of 4, an epoch's last batch included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, Trainer, TrainerCallback, set_seed
from trl.trainer.utils import get_config_model_id

from .batch import Batch
from .card import Paper
from .config import PreferenceConfig
from .engine import Engine
from .journal import Journal
from .kept import Kept
from .losses import Loss
from .measured import Measured
from .metrics import real_examples
from .policy import (
    autocast_dtype,
    load_policy,
    load_processor,
    loading,
    tokenizer_of,
)
from .python_record import python_record
from .record import Record
from .reference_keys import known_weights
from .references import make_reference
from .rewards import Reward
from .scoring import to_be_read
from .selfcheck import check_gradient, check_start
from .sets import Data, EvalData, Sets
from .start import check_models, check_options, look_at_start, own_callbacks, place
from .stop import FiniteGuard, Seen, is_out_of_memory, memory_advice


class PreferenceTrainer(Kept, Measured, Trainer):
    """Trains a policy on prompts with their completions.

    Args:
        model: Hub id or folder, or a model; one with an adapter goes on training that.
        args: The options.
        loss: From log-probs to the loss of each example.
        paper: Of the method, for the model card.
        train_dataset: Rows in TRL's formats. They're checked before the model is loaded.
        eval_dataset: Held-out rows, or several sets by name.
        processing_class: Tokenizer or processor; default: the model's.
        peft_config: The adapter to train; default: all weights.
        quantization_config: How to load the model's weights (QLoRA).
        reference: A model to compare with, in place of `args.reference`.
        callbacks: As in transformers.
        optimizers: As in transformers.
        record: Where the run came from, for the model card.
        reward: Scores completions, for a loss that reads scores: a `Reward`, or a function
            `f(prompts, completions, **columns) -> list[float]`, as in TRL.

    Raises:
        OSError: A model or file isn't there.
        ValueError: Data, model and options don't go together.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: str | Path | nn.Module,
        args: PreferenceConfig,
        *,
        loss: Loss,
        paper: Paper,
        train_dataset: Data | None = None,
        eval_dataset: EvalData | None = None,
        processing_class: Any = None,
        peft_config: PeftConfig | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        reference: nn.Module | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        record: Record | None = None,
        reward: Reward | Callable[..., Any] | None = None,
    ) -> None:
        model = str(model) if isinstance(model, Path) else model
        check_options(args, eval_dataset is not None, isinstance(train_dataset, IterableDataset))
        check_models(args, peft_config, quantization_config, reference)
        judge = to_be_read(reward, args.needs, paper.method)
        processor = processing_class or load_processor(model, args)
        tokenizer = tokenizer_of(processor)
        self.sets = Sets(args, processor, judge)
        rows, held_out = self.sets.all_prepared(train_dataset, eval_dataset)
        if not isinstance(rows, Dataset):
            # Each process reads its part of a stream: joined batches couldn't be cut again.
            args.accelerator_config.dispatch_batches = False
        self.record = record or python_record(
            model,
            paper.method.lower(),
            dtype=loading(args)["dtype"],
            adapter=peft_config,
            quantized=quantization_config,
            reward=judge,
            missing={
                "train_dataset": train_dataset,
                "eval_dataset": eval_dataset,
                "processing_class": processing_class,
                "reference": reference,
                "callbacks": callbacks,
                "optimizers": optimizers[0] or optimizers[1],
            },
        )
        # Adapters start from random numbers.
        set_seed(args.seed)
        policy: Any = self._policy(model, args, peft_config, quantization_config)
        self.weights = None if isinstance(model, str) else known_weights(policy)
        self.loss = loss
        self.engine = self._engine(policy, args)
        self.start = look_at_start(policy, args, reference)
        if reference is None:
            args.reference = self.start.reference
        self.reference = make_reference(
            self.start.reference if reference is None else reference,
            self.engine,
            tokenizer=processor,
            autocast=autocast_dtype(args),
            load=loading(args),
        )
        super().__init__(
            model=policy,
            args=args,
            data_collator=self.sets.collator(),
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=processor,
            callbacks=[*own_callbacks(args, self.reference, policy), *(callbacks or [])],
            optimizers=optimizers,
        )
        if self.reference is not None:
            self.reference.place(lambda module: place(module, self))
        self.journal = Journal(exact_drift=self.start.equal and not args.sync_ref_model)
        self.guard = FiniteGuard(Path(args.output_dir), tokenizer.decode, args.process_index)
        self.paper = paper
        self.base = (
            model if isinstance(model, str) else get_config_model_id(policy.config)
        ) or "a model made in memory"
        self._parameters = policy.num_parameters(exclude_embeddings=True)
        self._checked = not args.self_check

    def _policy(self, model: Any, args: Any, adapter: Any, quantized: Any) -> Any:
        """Load what is trained."""
        return load_policy(model, args, adapter, quantized)

    def _engine(self, policy: Any, args: Any) -> Any:
        """Make what scores."""
        return Engine(policy, args.log_prob_path, temperature=args.scored_temperature)

    # Loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        self.guard.check()
        batch = inputs["batch"]
        try:
            with self.engine.installed():
                return super().training_step(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            if self.args.auto_find_batch_size or not is_out_of_memory(error):
                raise
            raise torch.OutOfMemoryError(memory_advice(batch, self.args)) from error

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any
    ) -> tuple[None, None, None]:
        """Measure a batch of an evaluation; the journal averages over examples, not batches."""
        inputs = self._prepare_inputs(inputs)
        if self.accelerator.gradient_state.end_of_dataloader:
            remainder = self.accelerator.gradient_state.remainder
            share = self._share(self.args.eval_batch_size)
            inputs["real"] = self._real(inputs, remainder, share)
        with torch.no_grad(), self.engine.installed():
            self.compute_loss(model, inputs)
        return None, None, None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute this process's share of an update's loss.

        Args:
            model: The policy, as it's wrapped.
            inputs: What the collator returned.
            return_outputs: Not supported.
            num_items_in_batch: Examples of the update on all processes; None: of this batch.
        """
        batch: Batch = inputs["batch"]
        real = inputs.get("real", len(batch))
        reference = None if self.reference is None else self.reference(batch, through=model)
        with self.accelerator.autocast():
            scored = self.engine(batch, through=model, entropy=True)
        policy = scored.logps
        loss = self._loss(model.training)
        losses, numbers = loss(policy, reference, batch)
        if model.training:
            sums = None if reference is None else reference.sum(-1)
            logps = {"policy_logp": policy.detach().sum(-1), "reference_logp": sums}
            self.guard.watch(Seen(self.state.global_step, batch, losses.detach(), logps))
            self._check_start(loss, policy.detach(), reference, batch)
        if "weight" in batch.columns:
            losses = losses * batch.columns["weight"].to(losses)
        told = {**({} if model.training else {"loss": losses}), **numbers, **inputs.get("told", {})}
        self.journal.add(batch, scored, reference, told, real, training=model.training)
        if num_items_in_batch is None:
            return losses[:real].sum() / max(real, 1)
        return losses[:real].sum() / num_items_in_batch * self.accelerator.num_processes

    def _loss(self, training: bool) -> Loss:
        """The loss of this moment."""
        return self.loss

    def _check_start(
        self, loss: Loss, policy: Tensor, reference: Tensor | None, batch: Batch
    ) -> None:
        if self._checked or self.state.global_step > 0:
            return
        self._checked = True
        self.guard.check()
        odd = check_start(self.start, loss, policy, reference, batch, self.engine.model)
        if odd:
            self._warn(odd)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        first = self.args.self_check and self.state.global_step == 0
        if first and norm is not None and self.accelerator.scaler is None:
            self.guard.check()
            if not self._may_lack_gradient():
                check_gradient(norm, self.start)
        return norm

    def _may_lack_gradient(self) -> bool:
        """Whether the first update may have nothing to learn from, by chance."""
        return False

    # Counting

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Count an update's examples on all processes, and mark those that are there twice."""
        if batch_samples and self.accelerator.gradient_state.end_of_dataloader:
            share = self._share(self._train_batch_size)
            last = batch_samples[-1]
            last["real"] = self._real(last, self._remainder(share), share)
        count = sum(inputs.get("real", len(inputs["batch"])) for inputs in batch_samples)
        return self._sum(torch.tensor(count, device=device))

    def _remainder(self, share: int) -> int:
        """Examples of the training data that the last round of an epoch holds."""
        data = self.train_dataset
        if self.args.dataloader_drop_last or not hasattr(data, "__len__"):
            return -1
        return int(len(data) % (share * self.accelerator.num_processes))

    def _real(self, inputs: Mapping[str, Any], remainder: int, share: int) -> int:
        process = self.accelerator.process_index
        return real_examples(len(inputs["batch"]), remainder, share, process)
