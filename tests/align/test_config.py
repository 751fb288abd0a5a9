"""The options: what they default to, what follows from what, and what is refused with its value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import config

from contralign.align.config import DPOConfig, PreferenceConfig
from contralign.align.losses import DPO, IPO, Hinge, Loss
from contralign.commands.options import attributes

EARLY = {"early_stopping_patience": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "at least 2 tokens, got 1. Leave it out for no limit"),
        ({"ref_model_mixup_alpha": 0.0}, "ref_model_mixup_alpha is a share in (0, 1], got 0.0"),
        ({"ref_model_mixup_alpha": 1.1}, "ref_model_mixup_alpha is a share in (0, 1], got 1.1"),
        ({"ref_model_sync_steps": 0}, "ref_model_sync_steps must be at least 1, got 0."),
        ({"eval_samples_max_new_tokens": 0}, "eval_samples_max_new_tokens must be at least 1, got"),
        (
            {"per_device_train_batch_size": 0},
            "per_device_train_batch_size must be at least 1, got 0",
        ),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got"),
        (
            {"learning_rate": -1e-5},
            "learning_rate must be a finite number of at least 0, got -1e-05",
        ),
        (
            {"learning_rate": math.nan},
            "learning_rate must be a finite number of at least 0, got nan",
        ),
        (
            {"max_grad_norm": math.inf},
            "max_grad_norm must be a finite number of at least 0, got inf",
        ),
        ({"weight_decay": -0.1}, "weight_decay must be a finite number of at least 0, got -0.1."),
        ({"load_best_model_at_end": True}, "compares evaluations, got eval_strategy: no."),
        ({"eval_samples": -1}, "eval_samples must be at least 0, got -1."),
        (
            {"precompute_ref_log_probs": True, "reference": "adapter"},
            "precompute_ref_log_probs means reference: cached, got reference: adapter.",
        ),
        ({"sync_ref_model": True, "reference": "cached"}, "can't be done to reference: cached."),
        ({"sync_ref_model": True, "reference": "none"}, "can't be done to reference: none."),
        (
            {"sync_ref_model": True, "precompute_ref_log_probs": True},
            "can't be done to reference: cached.",
        ),
        (
            {**EARLY, "eval_strategy": "steps"},
            "metric_for_best_model: None and eval_strategy: steps.",
        ),
        ({**EARLY, "metric_for_best_model": "loss"}, "loss and eval_strategy: no. Set"),
        ({"loss_type": "robust"}, "is one of sigmoid, ipo, ipo_sum, hinge, got robust."),
        ({"loss_type": ["sigmoid", "ipo"]}, "hinge, got sigmoid, ipo."),
        ({"loss_type": []}, "hinge, got ."),
        (
            {"loss_type": "hinge", "label_smoothing": 0.1},
            "label_smoothing is of loss_type sigmoid, got 0.1 with hinge.",
        ),
        ({"label_smoothing": 0.5}, "label_smoothing must lie in [0, 0.5), got 0.5."),
        ({"beta": 0.0}, "beta must be above 0, got 0.0"),
        ({"loss_type": "ipo", "beta": -1.0}, "beta must be above 0, got -1.0"),
    ],
)
def test_refuses_a_value_and_says_which(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        config(tmp_path, **options)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "choices"),
    [("on_problem", "error, drop"), ("log_prob_path", "auto, packed, prefix, padded")],
)
def test_refuses_a_choice_that_there_is_not(tmp_path: Path, name: str, choices: str) -> None:
    made = config(tmp_path)
    setattr(made, name, "fast")
    with pytest.raises(ValueError, match=f"^{name} is one of {choices}, got 'fast'"):
        made.__post_init__()


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 2},
        {"max_length": None},
        {"learning_rate": 0.0, "weight_decay": 0.0, "max_grad_norm": 0.0},
        {"ref_model_mixup_alpha": 1.0, "ref_model_sync_steps": 1},
        {"eval_samples_max_new_tokens": 1, "eval_samples": 0},
        {"sync_ref_model": True},
        {"sync_ref_model": True, "reference": "adapter"},
        {"reference": "some/folder"},
        {**EARLY, "metric_for_best_model": "kl", "eval_strategy": "epoch"},
        {"label_smoothing": 0.49, "padding_free": True},
    ],
)
def test_takes_what_is_just_right(tmp_path: Path, options: dict[str, Any]) -> None:
    made = config(tmp_path, **options)
    assert {name: getattr(made, name) for name in options} == options


@pytest.mark.parametrize("given", [None, "cached"])
def test_trls_name_for_a_cached_reference(tmp_path: Path, given: str | None) -> None:
    assert config(tmp_path, precompute_ref_log_probs=True, reference=given).reference == "cached"
    assert config(tmp_path, reference=given).reference == given


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, DPO(beta=0.1)),
        ({"beta": 0.5, "label_smoothing": 0.2}, DPO(beta=0.5, label_smoothing=0.2)),
        ({"loss_type": "ipo", "beta": 0.2}, IPO(beta=0.2, average=True)),
        ({"loss_type": ["ipo_sum"]}, IPO(beta=0.1, average=False)),
        ({"loss_type": "hinge", "beta": 2.0}, Hinge(beta=2.0)),
    ],
)
def test_makes_the_loss_that_is_named(tmp_path: Path, options: dict[str, Any], loss: Loss) -> None:
    made = config(tmp_path, **options)
    assert made.loss() == loss
    assert isinstance(made.loss_type, list)


@pytest.mark.parametrize(
    ("options", "on", "kwargs"),
    [
        ({}, True, None),
        ({"gradient_checkpointing": False}, False, None),
        ({"gradient_checkpointing_kwargs": {"offload": True}}, True, {"offload": True}),
        ({"gradient_checkpointing": False, "activation_checkpointing": True}, True, None),
        ({"activation_checkpointing_kwargs": {"use_reentrant": True}}, True, None),
    ],
)
def test_checkpointing_goes_by_either_name(
    options: dict[str, Any], on: bool, kwargs: dict[str, Any] | None
) -> None:
    made = DPOConfig("out", use_cpu=True, **options)
    assert made.activation_checkpointing is on
    expected = options.get("activation_checkpointing_kwargs", kwargs)
    assert made.activation_checkpointing_kwargs == expected


@pytest.mark.parametrize(
    ("options", "bf16"),
    [
        ({"use_cpu": True}, False),
        ({"fp16": True}, False),
        ({"use_cpu": True, "bf16": True}, True),
        ({"bf16": False}, False),
        ({}, torch.cuda.is_available() and torch.cuda.is_bf16_supported()),
    ],
)
def test_computes_in_bfloat16_where_a_gpu_has_it(options: dict[str, Any], bf16: bool) -> None:
    assert DPOConfig("out", **options).bf16 is bf16


@pytest.mark.parametrize(
    ("launched", "options", "precision"),
    [
        ("bf16", {}, "bf16"),
        ("fp16", {}, "fp16"),
        ("no", {}, "no"),
        ("fp16", {"bf16": True}, "bf16"),
        ("bf16", {"bf16": False}, "no"),
        ("bf16", {"fp16": True}, "fp16"),
    ],
)
def test_computes_as_accelerate_was_launched_where_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, launched: str, options: dict[str, Any], precision: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    made = DPOConfig("out", use_cpu=True, **options)
    assert made.mixed_precision == precision
    assert (made.bf16, made.fp16) == (precision == "bf16", precision == "fp16")


def test_what_transformers_would_do_otherwise() -> None:
    made = DPOConfig("out", remove_unused_columns=True, use_cpu=True)
    assert made.remove_unused_columns is False
    assert made.logging_nan_inf_filter is False
    assert made.restore_callback_states_from_checkpoint is True
    assert made.dataloader_pin_memory is torch.accelerator.is_available()
    assert DPOConfig("out", dataloader_pin_memory=False).dataloader_pin_memory is False


def test_what_is_written_as_json_is_read(tmp_path: Path) -> None:
    assert config(tmp_path, model_init_kwargs='{"revision": "v2"}').model_init_kwargs == {
        "revision": "v2"
    }


def test_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_init_kwargs is a mapping, got 'dtype'"):
        config(tmp_path, model_init_kwargs="dtype")


def test_rows_cannot_be_padded_by_a_key_of_trls(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="padding_free isn't supported, got False"):
        config(tmp_path, padding_free=False)
    assert config(tmp_path, padding_free=True).padding_free


def test_the_result_goes_to_a_folder_that_is_named() -> None:
    with pytest.raises(ValueError, match="output_dir says where the result goes"):
        DPOConfig()


@pytest.mark.parametrize("kind", [PreferenceConfig, DPOConfig])
def test_every_option_of_ours_is_explained(kind: type) -> None:
    own = {name for name in vars(kind)["__annotations__"] if not name.startswith("_")}
    # These two are transformers' names for gradient checkpointing.
    assert own - {"activation_checkpointing", "activation_checkpointing_kwargs"} == set(
        attributes(kind)
    )


@pytest.mark.parametrize(
    ("metric", "given", "better"),
    [
        ("rewards/margins", None, True),
        ("loss", None, False),
        ("kl", None, False),
        ("eval_kl", None, False),
        ("kl", True, True),
    ],
)
def test_the_best_kl_is_the_lowest(metric: str, given: bool | None, better: bool) -> None:
    made = DPOConfig(
        "out",
        use_cpu=True,
        eval_strategy="epoch",
        metric_for_best_model=metric,
        greater_is_better=given,
    )
    assert made.greater_is_better is better
