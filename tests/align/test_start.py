"""What a run starts from: the reference that is meant, and options that would go wrong later."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import LORA, policy, trained
from align_runs import config
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BitsAndBytesConfig, EarlyStoppingCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from contralign.align.config import DPOConfig
from contralign.align.copg_config import CoPGConfig
from contralign.align.cpl_config import CPLConfig
from contralign.align.dcd_config import DCDConfig
from contralign.align.engine import Engine
from contralign.align.flow import Lines
from contralign.align.metrics import MEASURED
from contralign.align.reference_sync import ReferenceSync
from contralign.align.references import make_reference
from contralign.align.start import (
    UNLISTED,
    check_models,
    check_options,
    check_schedule,
    look_at_start,
    own_callbacks,
)

MISSING = next(
    name
    for name in INTEGRATION_TO_CALLBACK
    if name not in (*UNLISTED, *get_available_reporting_integrations())
)
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}


def model(kind: str) -> Any:
    """A model whose weights are trained, with an adapter that is new, or with one that speaks."""
    if kind == "spoken":
        return policy()
    base = made(MODELS["llama"])
    return base if kind == "full" else get_peft_model(base, LoraConfig(**LORA))


@pytest.mark.parametrize(
    ("kind", "options", "name", "equal"),
    [
        ("full", {}, "base", True),
        ("new", {}, "base", True),
        ("full", {"reference": "cached"}, "cached", True),
        ("new", {"reference": "cached"}, "cached", True),
        ("new", {"reference": "adapter"}, "adapter", True),
        ("new", {"reference": "none"}, "none", False),
        ("new", {"reference": "a/folder"}, "a/folder", False),
        ("spoken", {"reference": "base"}, "base", False),
        ("spoken", {"reference": "cached"}, "cached", False),
        ("spoken", {"reference": "adapter"}, "adapter", True),
        ("full", {"sync_ref_model": True}, "base", True),
        ("new", {"sync_ref_model": True}, "adapter", True),
        ("new", {"sync_ref_model": True, "reference": "base"}, "adapter", True),
        ("full", {"sync_ref_model": True, "reference": "a/folder"}, "a/folder", False),
    ],
)
def test_the_reference_and_whether_the_policy_must_equal_it(
    tmp_path: Path, kind: str, options: dict[str, Any], name: str, equal: bool
) -> None:
    start = look_at_start(model(kind), config(tmp_path, **options), None)
    assert (start.reference, start.equal) == (name, equal)
    assert start.adapter is (kind != "full")
    assert not start.half


def test_an_adapter_that_speaks_already_needs_a_word(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Set reference: adapter to compare with where training"):
        look_at_start(policy(), config(tmp_path), None)


@pytest.mark.parametrize("reference", [None, "base"])
def test_a_model_that_is_handed_over_is_the_reference(
    tmp_path: Path, reference: str | None
) -> None:
    options = config(tmp_path, reference=reference)
    start = look_at_start(policy(), options, nn.Linear(1, 1))
    assert (start.reference, start.equal) == ("a model", False)


@pytest.mark.parametrize(
    ("dtype", "options"), [(torch.float32, {"bf16": True}), (torch.bfloat16, {})]
)
def test_weights_or_autocast_may_be_half(
    tmp_path: Path, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert look_at_start(model("full").to(dtype), config(tmp_path, **options), None).half


def test_patience_stops_early(tmp_path: Path) -> None:
    options = config(
        tmp_path,
        **EVALUATED,
        metric_for_best_model="kl",
        early_stopping_patience=3,
        early_stopping_threshold=0.5,
    )
    _, stopping = own_callbacks(options, None, model("full"))
    assert isinstance(stopping, EarlyStoppingCallback)
    assert stopping.early_stopping_patience == 3
    assert stopping.early_stopping_threshold == 0.5


def test_a_reference_that_follows_does_as_the_options_say(tmp_path: Path) -> None:
    followed = policy()
    reference = make_reference("adapter", Engine(followed, "padded"))
    options = config(
        tmp_path, sync_ref_model=True, ref_model_mixup_alpha=1.0, ref_model_sync_steps=2
    )
    _, sync = own_callbacks(options, reference, followed)
    assert isinstance(sync, ReferenceSync)
    assert reference is not None
    before = reference(ragged())
    for name, parameter in followed.named_parameters():
        if name in trained(followed):
            parameter.data.mul_(2)
    state = type("State", (), {"global_step": 1})()
    sync.on_step_end(options, state, None)
    assert torch.equal(reference(ragged()), before)
    state.global_step = 2
    sync.on_step_end(options, state, None)
    assert not torch.allclose(reference(ragged()), before)


def test_nothing_is_called_back_that_nobody_asked_for(tmp_path: Path) -> None:
    (lines,) = own_callbacks(config(tmp_path), None, model("full"))
    assert isinstance(lines, Lines)


def test_one_update_of_a_warm_up_trains_nothing(tmp_path: Path) -> None:
    warm = {"max_steps": 1, "warmup_steps": 0.1}
    with pytest.raises(ValueError, match=r"warmup_steps: 0\.1 would train nothing"):
        check_options(config(tmp_path, **warm), False)
    for options in ({"lr_scheduler_type": "constant"}, {"learning_rate": 0.0}, {"max_steps": 2}):
        check_options(config(tmp_path, **{**warm, **options}), False)
    check_options(config(tmp_path, max_steps=1), False)
    check_schedule(config(tmp_path, warmup_steps=3), 2)
    with pytest.raises(ValueError, match="warmup_steps: 3 would train nothing"):
        check_schedule(config(tmp_path, warmup_steps=3), 1)


@pytest.mark.parametrize(
    ("options", "evaluates", "streams", "message"),
    [
        ({}, False, True, "max_steps says when to stop, got -1."),
        ({"max_steps": 0}, False, True, "max_steps says when to stop, got 0."),
        ({"metric_for_best_model": "reward"}, True, False, "got 'reward'. There are: loss, "),
        ({"metric_for_best_model": "eval_bleu"}, True, False, "got 'eval_bleu'. There are: "),
        ({"eval_strategy": "epoch"}, False, False, "eval_strategy: epoch needs an evaluation set"),
        ({"eval_samples": 2}, True, False, "Set eval_strategy: steps."),
        ({"report_to": "wandbb"}, True, False, "report_to is none, all, or some of azure_ml"),
        ({"report_to": [MISSING]}, True, False, f"report_to: {MISSING} isn't installed."),
    ],
)
def test_refuses_what_would_fail_later(
    tmp_path: Path, options: dict[str, Any], evaluates: bool, streams: bool, message: str
) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        check_options(config(tmp_path, **options), evaluates, streams)
    assert message in str(refusal.value)


def test_refuses_several_gpus_in_one_process(tmp_path: Path) -> None:
    options = config(tmp_path)
    options._n_gpu = 2
    with pytest.raises(ValueError, match="one process trains on one GPU, got 2 in one process"):
        check_options(options, evaluates=False)


@pytest.mark.parametrize("name", ["loss", *MEASURED])
@pytest.mark.parametrize("prefix", ["", "eval_", "eval_other_"])
def test_the_best_model_may_be_that_of_anything_measured(
    tmp_path: Path, name: str, prefix: str
) -> None:
    check_options(config(tmp_path, metric_for_best_model=f"{prefix}{name}"), evaluates=False)


@pytest.mark.parametrize(
    ("kind", "given", "name", "measured"),
    [
        (DPOConfig, {}, "scores/mean", False),
        (DPOConfig, {"reference": "none"}, "kl", False),
        (CPLConfig, {}, "kl", False),
        (CPLConfig, {"kl": True}, "kl", True),
        (CPLConfig, {}, "rewards/saturated", False),
        (CPLConfig, {"lmbda": 0.5}, "rewards/saturated", True),
        (CoPGConfig, {}, "rewards/correlation", True),
        (CoPGConfig, {}, "completions/clipped", False),
        (CoPGConfig, {"online": True}, "completions/clipped", True),
        (DCDConfig, {}, "nll/rejected", True),
        (DCDConfig, {}, "rewards/margins", True),
    ],
)
def test_the_best_model_is_not_that_of_what_a_method_does_not_measure(
    tmp_path: Path, kind: type, given: dict[str, Any], name: str, measured: bool
) -> None:
    options = config(tmp_path, kind, metric_for_best_model=name, **given)
    with nullcontext() if measured else pytest.raises(ValueError, match="There are: loss"):
        check_options(options, evaluates=False)


@pytest.mark.parametrize(
    ("options", "evaluates", "streams"),
    [
        ({}, False, False),
        ({}, True, False),
        ({"max_steps": 1}, False, True),
        ({**EVALUATED, "eval_samples": 2}, True, False),
        ({"report_to": ["azure_ml"]}, False, False),
    ],
)
def test_takes_what_goes_together(
    tmp_path: Path, options: dict[str, Any], evaluates: bool, streams: bool
) -> None:
    check_options(config(tmp_path, **options), evaluates, streams)


def test_models_are_looked_at_before_any_is_loaded(tmp_path: Path) -> None:
    made(MODELS["llama"]).config.save_pretrained(tmp_path / "config-only")
    nowhere = f"{tmp_path}/nowhere"
    check_models(config(tmp_path, reference=f"{tmp_path}/config-only"), None, None, None)
    check_models(config(tmp_path, reference=nowhere), None, None, nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"nowhere', which is no folder\."):
        check_models(config(tmp_path, reference=nowhere), None, None, None)
    odd = config(tmp_path, model_init_kwargs={"attn_implementation": "flash"})
    with pytest.raises(ValueError, match=r"attn_implementation is one of eager, .*, got 'flash'"):
        check_models(odd, None, None, None)
    with pytest.raises(ValueError, match=r"bitsandbytes|without an adapter"):
        check_models(config(tmp_path), None, BitsAndBytesConfig(load_in_4bit=True), None)
