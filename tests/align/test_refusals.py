"""What isn't honoured is refused by name; all keys of TRL are known, and a new one is noticed."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
from accelerate import ParallelismConfig
from align_runs import config
from transformers import TrainingArguments
from trl import DPOConfig as TRLConfig

from contralign.align.config import DPOConfig, PreferenceConfig
from contralign.align.cpl_config import CPLConfig
from contralign.align.refusals import (
    FORMER_KEYS,
    TRAINER_KEYS,
    TRL_KEYS,
    TRLOnly,
    refuse,
    unknown,
)

KEYS = {**TRL_KEYS, **TRAINER_KEYS}
# A value of each key that asks for something.
ASKING: dict[str, Any] = {
    "f_divergence_type": "js_divergence",
    "f_alpha_divergence_coef": 0.7,
    "ld_alpha": 0.5,
    "use_weighting": True,
    "loss_weights": [0.8, 0.2],
    "discopop_tau": 0.1,
    "router_aux_loss_coef": 0.001,
    "activation_offloading": True,
    "use_liger_kernel": True,
    "truncation_mode": "keep_end",
    "precompute_ref_batch_size": 8,
    "pad_to_multiple_of": "64",
    "pad_token": "<pad>",
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "include_num_input_tokens_seen": "all",
    "include_for_metrics": ["inputs"],
    "batch_eval_metrics": True,
    "fp16_full_eval": True,
    "bf16_full_eval": True,
    "torch_compile": True,
    "average_tokens_across_devices": False,
    "parallelism_config": ParallelismConfig(),
    "train_sampling_strategy": "group_by_length",
}


def default(spec: Field[Any]) -> Any:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()


def of(kind: type) -> dict[str, Any]:
    return {spec.name: default(spec) for spec in fields(kind)}  # type: ignore[arg-type]


def own(kind: type) -> set[str]:
    return set(vars(kind)["__annotations__"]) - {"_VALID_DICT_FIELDS"}


TRL = {name: value for name, value in of(TRLConfig).items() if name in own(TRLConfig)} | {
    name: value for name, value in of(TRLConfig).items() if name not in of(TrainingArguments)
}
OURS = of(DPOConfig)


def test_there_is_a_value_to_ask_with_for_every_key() -> None:
    assert ASKING.keys() == KEYS.keys()


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_not_honoured_is_refused_with_its_value_and_the_way_out(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} isn't supported, got ") as refusal:
        config(tmp_path, **{name: ASKING[name]})
    assert repr(ASKING[name]) in str(refusal.value)
    assert str(refusal.value).endswith(KEYS[name].reason)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in KEYS for value in KEYS[name].harmless]
)
def test_a_value_that_asks_for_nothing_is_taken(tmp_path: Path, name: str, value: Any) -> None:
    assert isinstance(config(tmp_path, **{name: value}), DPOConfig)


def test_what_transformers_makes_of_another_key_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^torch_compile isn't supported, got True"):
        config(tmp_path, torch_compile_backend="inductor")


def test_a_config_without_the_key_has_nothing_to_refuse() -> None:
    refuse(object())


@pytest.mark.parametrize("name", TRL)
def test_every_key_of_trl_is_honoured_or_refused(name: str) -> None:
    honoured = own(PreferenceConfig) | own(DPOConfig)
    assert (name in honoured) is not (name in TRL_KEYS)
    assert name in OURS


@pytest.mark.parametrize("name", sorted(own(TRLOnly)))
def test_what_is_only_known_by_name_is_refused_and_has_trls_default(name: str) -> None:
    harmless = TRL_KEYS[name].harmless
    assert TRL[name] in harmless
    assert OURS[name] in (*harmless, None)


@pytest.mark.parametrize("name", sorted(TRL.keys() - TRL_KEYS.keys() - {"padding_free"}))
def test_what_is_honoured_has_trls_default(name: str) -> None:
    assert OURS[name] == TRL[name]


@pytest.mark.parametrize("name", FORMER_KEYS)
def test_a_key_of_former_days_is_told_where_it_went(name: str) -> None:
    assert name not in {**OURS, **TRL}
    assert unknown(name, OURS) == f"there is no key {name!r}: {FORMER_KEYS[name]}"


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        (
            DPOConfig,
            "reward_funcs",
            "'reward_funcs': rewards are for copg, whose loss reads scores",
        ),
        (CPLConfig, "beta", "'beta': cpl calls its temperature alpha"),
    ],
)
def test_a_key_of_another_method_is_told_why_not_here(kind: Any, name: str, told: str) -> None:
    assert told in unknown(name, [one.name for one in fields(kind)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("learning_rat", "Did you mean 'learning_rate'?"),
        ("betta", "Did you mean 'beta'?"),
        ("refrence", "Did you mean 'reference'?"),
        ("zzzzzzzz", "See contralign train METHOD --help."),
    ],
)
def test_an_unknown_key_is_told_the_nearest_right_one(name: str, expected: str) -> None:
    assert unknown(name, OURS) == f"there is no key {name!r}. {expected}"
