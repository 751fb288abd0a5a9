"""What a run starts from: which reference, and whether the policy must equal it; or a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from accelerate.utils import is_peft_model
from peft import PeftConfig
from torch import nn
from transformers import (
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from trl.models import prepare_deepspeed, prepare_fsdp

from .config import REFERENCES, PreferenceConfig
from .flow import Lines
from .policy import (
    autocast_dtype,
    check_attention,
    check_quantization,
    comes_with_adapter,
    loading,
)
from .reference_models import find_reference
from .reference_sync import ReferenceSync
from .references import Reference
from .support import language_model

# Schedules that have no warm-up.
UNWARMED = ("constant", "reduce_lr_on_plateau")
# Transformers doesn't say whether these can be used.
UNLISTED = ("azure_ml", "flyte")


@dataclass(frozen=True)
class Start:
    """What is known of the policy and its reference before training.

    Attributes:
        reference: Its name.
        equal: Whether the reference must be the policy at this moment.
        adapter: Whether an adapter is trained.
        half: Whether log-probs are computed in half precision, or from quantized weights.
    """

    reference: str
    equal: bool
    adapter: bool
    half: bool


def look_at_start(policy: Any, config: PreferenceConfig, given: nn.Module | None) -> Start:
    """Choose the reference and say what follows.

    Args:
        policy: The model, with its adapter.
        config: The options.
        given: A reference that was passed as a model.

    Raises:
        ValueError: The policy has an adapter, so that its beginning isn't the base, and the
            options don't say which of the two is meant.
    """
    trained = comes_with_adapter(policy)
    name = "a model" if given is not None else config.reference
    if name is None:
        if trained:
            raise ValueError(
                "the model comes with an adapter that already changes what it says, so reference: "
                "base would be the model without it. Set reference: adapter to compare with where "
                "training starts, or reference: base if the base is meant."
            )
        name = "base"
    if name == "base" and config.sync_ref_model and is_peft_model(policy):
        # The base's weights are the policy's too: what follows must be a copy of the adapter.
        name = "adapter"
    same = name == "adapter" or (name in ("base", "cached") and not trained)
    half = autocast_dtype(config) is not None or policy.dtype.itemsize < 4
    coarse = half or getattr(language_model(policy), "is_quantized", False)
    return Start(name, same, is_peft_model(policy), coarse)


def own_callbacks(
    config: PreferenceConfig, reference: Reference | None, policy: nn.Module
) -> list[TrainerCallback]:
    """Ours: when lines are logged, and what options ask for."""
    chosen: list[TrainerCallback] = [Lines()]
    if config.early_stopping_patience is not None:
        chosen.append(
            EarlyStoppingCallback(config.early_stopping_patience, config.early_stopping_threshold)
        )
    if config.sync_ref_model:
        alpha, steps = config.ref_model_mixup_alpha, config.ref_model_sync_steps
        chosen.append(ReferenceSync(reference, policy, alpha=alpha, steps=steps))
    return chosen


def check_options(config: PreferenceConfig, evaluates: bool, streams: bool = False) -> None:
    """Refuse what would fail only after hours, or go wrong unnoticed.

    Args:
        config: The options.
        evaluates: Whether there is an evaluation set.
        streams: Whether the rows to train on are read as they're needed.

    Raises:
        ValueError: With the option, its value and the way out.
    """
    if config.n_gpu > 1:
        raise ValueError(
            f"one process trains on one GPU, got {config.n_gpu} in one process. Start with "
            "accelerate launch -m contralign train ..., or set CUDA_VISIBLE_DEVICES=0."
        )
    if config.world_size > 1 and not config.accelerator_config.even_batches:
        raise ValueError(
            f"{config.world_size} processes take as many batches each, got accelerator_config with "
            "even_batches: false, under which one would wait for ever. Leave it out."
        )
    check_schedule(config, config.max_steps)
    if streams and config.max_steps <= 0:
        raise ValueError(
            "a stream doesn't know how long it is, so max_steps says when to stop, got "
            f"{config.max_steps}. Set it, or read the data without streaming."
        )
    _check_reporters(config.report_to)
    metric = config.metric_for_best_model
    known = ("loss", "runtime", *config.measured)
    if metric is not None and not any(metric.endswith(name) for name in known):
        raise ValueError(
            f"metric_for_best_model is measured by evaluation, got {metric!r}. There are: "
            f"{', '.join(known)}."
        )
    if not evaluates and config.eval_strategy != "no":
        raise ValueError(
            f"eval_strategy: {config.eval_strategy.value} needs an evaluation set, got none. Pass "
            "eval_dataset (dataset_test_split, or test_split_size), or set eval_strategy: no."
        )
    if config.eval_samples and config.eval_strategy == "no":
        raise ValueError("eval_samples are drawn at evaluations. Set eval_strategy: steps.")


def check_schedule(config: TrainingArguments, updates: int) -> None:
    """Refuse a run whose only update is the first of a warm-up, where the learning rate is 0.

    Args:
        config: The options.
        updates: Of the whole run.

    Raises:
        ValueError: With the way out.
    """
    warms_up = config.lr_scheduler_type not in UNWARMED and config.warmup_steps > 0
    if updates == 1 and warms_up and config.learning_rate > 0:
        raise ValueError(
            f"a warm-up begins at learning rate 0, so a run of 1 update with warmup_steps: "
            f"{config.warmup_steps} would train nothing. Set warmup_steps: 0, or train for longer."
        )


def check_models(
    config: PreferenceConfig,
    adapter: PeftConfig | None,
    quantized: BitsAndBytesConfig | None,
    reference: nn.Module | None,
) -> None:
    """Refuse what couldn't be loaded or trained, as far as that can be seen without weights.

    Raises:
        OSError: There is no such reference.
        ValueError: With the option, its value and the way out.
    """
    check_attention(config)
    check_quantization(quantized, adapter)
    if reference is None and config.reference not in (None, *REFERENCES):
        find_reference(config.reference, loading(config))


def _check_reporters(names: Iterable[str]) -> None:
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(
                f"report_to is none, all, or some of {', '.join(INTEGRATION_TO_CALLBACK)}, got "
                f"{name!r}."
            )
        if name not in (*UNLISTED, *get_available_reporting_integrations()):
            raise ValueError(f"report_to: {name} isn't installed. Install it, or report_to: none.")


def place(module: nn.Module, trainer: Trainer) -> nn.Module:
    """Put a frozen model where the policy is: on the device, or split as the policy will be."""
    if trainer.is_deepspeed_enabled:
        return prepare_deepspeed(module, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        return prepare_fsdp(module, trainer.accelerator)
    return module.to(trainer.accelerator.device)
