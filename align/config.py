"""The options of training: those of `TrainingArguments`, TRL's for preferences, and ours."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from transformers import TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available

from .data.needs import PAIRS, Needs
from .losses import DPO, LOSSES, Loss
from .metrics import MEASURED
from .refusals import TRLOnly, refuse

AT_LEAST_1 = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("ref_model_sync_steps", "eval_samples_max_new_tokens"),
)
AT_LEAST_0 = ("learning_rate", "weight_decay", "max_grad_norm")
# Best where they are lowest; transformers knows that of losses alone.
LOW = ("kl", "runtime")
REFERENCES = ("base", "adapter", "cached", "none")


@dataclass
class PreferenceConfig(TrainingArguments):
    """What every preference trainer understands, beside all keys of `TrainingArguments`.

    Attributes:
        learning_rate: At its peak: 1e-6 suits full fine-tuning, 5e-6 to 5e-5 LoRA.
        logging_steps: Updates between two lines of the log; below 1, their share of all.
        gradient_checkpointing: Whether to trade about a third more time for memory; on as in TRL.
        bf16: Whether to compute in bfloat16 (autocast). Default: as `accelerate launch` says, else
            where a GPU has it.
        dataloader_pin_memory: Off where there is no accelerator.
        remove_unused_columns: Always false: columns that nobody reads never reach the trainer.
        logging_nan_inf_filter: Off: a loss that isn't finite stops the run.
        restore_callback_states_from_checkpoint: On, so that patience goes on where it was.
        reference: What the policy is compared with. base: the weights before training, which under
            LoRA are the model with its adapter off; adapter: a frozen copy of the adapter that
            training starts from; cached: base, each log-prob computed once and kept on disk; a
            folder or hub id of a model or an adapter; none: a reference-free loss. Default: base.
        max_length: Tokens of a prompt with its completion; longer ones lose their end, and are
            counted.
        on_problem: What to do with a row that can't be trained on: stop, or go on without it.
        log_prob_path: How log-probs are computed; auto takes the fastest that is exact.
        disable_dropout: Whether dropout is off; with it on, policy and reference differ by noise.
        model_init_kwargs: Passed to `from_pretrained` when the model is given by name.
        trust_remote_code: Whether code of the model's repository may run.
        dataset_num_proc: Processes that prepare the data.
        padding_free: Accepted for TRL's files if true, which is what happens: rows have no padding
            where the model allows it. log_prob_path: padded pads them.
        precompute_ref_log_probs: TRL's name for `reference: cached`.
        sync_ref_model: Whether the reference follows the policy (TR-DPO, arXiv 2404.09656).
        ref_model_mixup_alpha: Its share of the policy when it does.
        ref_model_sync_steps: Updates between two times.
        eval_samples: Prompts of the evaluation set to answer at each evaluation, for reading.
        eval_samples_max_new_tokens: How long the answers may get.
        early_stopping_patience: Evaluations without a better `metric_for_best_model` to stop at.
        early_stopping_threshold: What counts as better.
        self_check: Whether to check at the first step that training starts as it should.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
    ]

    learning_rate: float = 1e-6
    logging_steps: float = 10
    gradient_checkpointing: bool | None = True
    dataloader_pin_memory: bool = True
    activation_checkpointing: bool | None = None
    activation_checkpointing_kwargs: dict[str, Any] | str | None = None
    bf16: bool | None = None
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False
    restore_callback_states_from_checkpoint: bool = True

    reference: str | None = None
    max_length: int | None = 1024
    on_problem: Literal["error", "drop"] = "error"
    log_prob_path: Literal["auto", "packed", "prefix", "padded"] = "auto"
    disable_dropout: bool = True
    model_init_kwargs: dict[str, Any] | str | None = None
    trust_remote_code: bool = False
    dataset_num_proc: int | None = None
    padding_free: bool | None = None
    precompute_ref_log_probs: bool = False
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    eval_samples: int = 0
    eval_samples_max_new_tokens: int = 128
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0
    self_check: bool = True

    @property
    def needs(self) -> Needs:
        """What is read of the data."""
        return PAIRS

    @property
    def measured(self) -> tuple[str, ...]:
        """What evaluation measures beside the loss."""
        free = self.reference == "none"
        return tuple(name for name in MEASURED if not (free and name == "kl"))

    @property
    def scored_temperature(self) -> float:
        """The temperature of the distribution that log-probs are of."""
        return 1.0

    def __post_init__(self) -> None:
        require_folder(self)
        refuse(self)
        check_mappings(self)
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError(
                "load_best_model_at_end compares evaluations, got eval_strategy: no. Set it to "
                "steps or epoch, or leave load_best_model_at_end out."
            )
        metric = self.metric_for_best_model or ""
        if self.greater_is_better is None and (metric.endswith(LOW) or "nll/" in metric):
            self.greater_is_better: bool | None = False
        choose_precision(self)
        name_checkpointing(self)
        self.remove_unused_columns = False
        # Without an accelerator torch warns of it at every loader.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.accelerator.is_available()
        super().__post_init__()
        if not (self.bf16 or self.fp16) and self.mixed_precision in ("bf16", "fp16"):
            self.mixed_precision: str = "no"
        refuse(self)
        self._check_choices()
        self._check_numbers()
        self._check_reference()
        self._check_early_stopping()

    def _check_choices(self) -> None:
        for name, hint in get_type_hints(PreferenceConfig).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise ValueError(f"{name} is one of {', '.join(get_args(hint))}, got {value!r}.")
        if not isinstance(self.model_init_kwargs, Mapping | None):
            raise ValueError(
                f"model_init_kwargs is a mapping, got {self.model_init_kwargs!r}. Write it as JSON."
            )

    def _check_numbers(self) -> None:
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(
                "max_length must hold a prompt and a completion, at least 2 tokens, got "
                f"{self.max_length}. Leave it out for no limit: max_length: null."
            )
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise ValueError(
                "ref_model_mixup_alpha is a share in (0, 1], got "
                f"{self.ref_model_mixup_alpha}. TR-DPO's is 0.6."
            )
        for name in AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in AT_LEAST_0:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}.")
        if self.eval_samples < 0:
            raise ValueError(f"eval_samples must be at least 0, got {self.eval_samples}.")

    def _check_reference(self) -> None:
        if self.precompute_ref_log_probs:
            if self.reference not in (None, "cached"):
                raise ValueError(
                    "precompute_ref_log_probs means reference: cached, got reference: "
                    f"{self.reference}. Leave one of them out."
                )
            self.reference = "cached"
        if self.sync_ref_model and self.reference in ("cached", "none"):
            raise ValueError(
                "sync_ref_model moves the reference, which can't be done to reference: "
                f"{self.reference}. Take base or adapter."
            )

    def _check_early_stopping(self) -> None:
        if self.early_stopping_patience is None:
            return
        if self.metric_for_best_model is None or self.eval_strategy == "no":
            raise ValueError(
                "early_stopping_patience compares evaluations, got metric_for_best_model: "
                f"{self.metric_for_best_model} and eval_strategy: {self.eval_strategy.value}. Set "
                "metric_for_best_model (loss, rewards/accuracies, ...) and eval_strategy."
            )


@dataclass
class DPOConfig(TRLOnly, PreferenceConfig):
    """Options of `DPOTrainer`: those of `PreferenceConfig`, and the loss.

    TRL's keys for what isn't here are known: they are refused by name.

    Attributes:
        loss_type: sigmoid (DPO), ipo (log-probs averaged over tokens, as in TRL), ipo_sum (summed,
            as in the original code), or hinge.
        beta: How strongly the policy is held to the reference; IPO's tau.
        label_smoothing: Share of the preferences that are taken to be the wrong way round (cDPO).
    """

    loss_type: list[str] | str = field(default_factory=lambda: ["sigmoid"])
    beta: float = 0.1
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.loss_type, str):
            self.loss_type = [self.loss_type]
        super().__post_init__()
        self.loss()

    def loss(self) -> Loss:
        """Make the loss that is named.

        Raises:
            ValueError: There is no such loss, it has no label smoothing, or a value is out of
                range.
        """
        if len(self.loss_type) != 1 or self.loss_type[0] not in LOSSES:
            raise ValueError(
                f"loss_type is one of {', '.join(LOSSES)}, got {', '.join(self.loss_type)}. "
                "Other losses of TRL aren't here, nor sums of several; robust is nearest to "
                "sigmoid with label_smoothing."
            )
        make = LOSSES[self.loss_type[0]]
        if make is DPO:
            return make(beta=self.beta, label_smoothing=self.label_smoothing)
        if self.label_smoothing:
            raise ValueError(
                f"label_smoothing is of loss_type sigmoid, got {self.label_smoothing} with "
                f"{self.loss_type[0]}. Leave one of them out."
            )
        return make(beta=self.beta)


def check_mappings(config: Any) -> None:
    """Read mappings that are written as JSON, as transformers does, which names no key.

    Raises:
        ValueError: With the key and the value.
    """
    for name in config._VALID_DICT_FIELDS:
        value = getattr(config, name, None)
        if isinstance(value, str) and value.startswith("{"):
            try:
                json.loads(value)
            except ValueError as error:
                raise ValueError(
                    f"{name} maps keys to values, written as JSON, got {value!r}: {error}. In JSON "
                    "keys stand in double quotes."
                ) from error


def require_folder(config: TrainingArguments) -> None:
    """Refuse a run without a folder of its own; transformers would take trainer_output.

    Raises:
        ValueError: With the way out.
    """
    if config.output_dir is None:
        raise ValueError("output_dir says where the result goes, got none. Name a folder.")


def choose_precision(config: TrainingArguments) -> None:
    """Where nothing is set: as `accelerate launch` says, else bf16 where a GPU has it."""
    if config.bf16 is not None or config.fp16:
        config.bf16 = bool(config.bf16)
        return
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    config.fp16 = launched == "fp16"
    config.bf16 = launched == "bf16" or (not (config.fp16 or config.use_cpu) and _has_bf16())


def name_checkpointing(config: TrainingArguments) -> None:
    """Give TRL's keys of gradient checkpointing the names that transformers has for them now."""
    if config.activation_checkpointing is None:
        config.activation_checkpointing = bool(config.gradient_checkpointing)
    if config.activation_checkpointing_kwargs is None:
        config.activation_checkpointing_kwargs = config.gradient_checkpointing_kwargs


def _has_bf16() -> bool:
    return torch.cuda.is_available() and is_torch_bf16_gpu_available()
