"""The record of a run that Python started: its arguments as keys of a config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate.utils import is_peft_model
from peft import LoraConfig, PeftConfig
from transformers import BitsAndBytesConfig
from trl.trainer.utils import get_config_model_id

from .record import Record, plain
from .rewards import Reward
from .rewards.make import reward_keys

LORA_KEYS: Mapping[str, str] = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "target_parameters": "lora_target_parameters",
    "modules_to_save": "lora_modules_to_save",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}
BNB_KEYS: Mapping[str, str] = {
    "load_in_4bit": "load_in_4bit",
    "load_in_8bit": "load_in_8bit",
    "bnb_4bit_quant_type": "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant": "use_bnb_nested_quant",
    "bnb_4bit_quant_storage": "bnb_4bit_quant_storage",
}
# What PEFT fills in, and what is always the same here.
FILLED = (
    *("task_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
    "peft_version",
)
FILLED_BNB = ("quant_method", "bnb_4bit_compute_dtype")
# TRL's defaults are others than PEFT's.
SAID = ("r", "lora_alpha", "lora_dropout")


def python_record(
    model: Any,
    method: str,
    *,
    dtype: Any,
    adapter: PeftConfig | None,
    quantized: BitsAndBytesConfig | None,
    reward: Reward | None = None,
    missing: Mapping[str, Any],
) -> Record:
    """Describe a run by what its trainer was given.

    Args:
        model: Hub id or folder, or a model.
        method: Of `contralign train`.
        dtype: What a model that is named is loaded in.
        adapter: What is added to the model.
        quantized: How its weights are loaded.
        reward: What scores completions.
        missing: Other arguments that no file can hold, by name: those that aren't None count.
    """
    named = isinstance(model, str)
    keys = reward_keys(reward)
    name = model if named else get_config_model_id(model.config)
    if adapter is None and not named and is_peft_model(model):
        adapter = model.peft_config[model.active_adapter]
    settings = {
        "model_name_or_path": name,
        **({"dtype": plain(dtype)} if named else {}),
        **adapter_settings(adapter),
        **quantization_settings(quantized),
        **(keys or {}),
    }
    told = [] if named else [f"a model in memory (of {name})" if name else "a model in memory"]
    told += ["reward"] if keys is None else []
    told += [argument for argument, value in missing.items() if value is not None]
    return Record((), settings, method, told)


def adapter_settings(config: PeftConfig | None) -> dict[str, Any]:
    """The command line's keys for an adapter; `peft_config`, which it refuses, if it has none."""
    if config is None:
        return {}
    given = _changed(config.to_dict(), type(config)().to_dict(), FILLED)
    if not isinstance(config, LoraConfig) or not given.keys() <= LORA_KEYS.keys():
        return {"peft_config": {"peft_type": plain(config.peft_type), **given}}
    told = {**{name: getattr(config, name) for name in SAID}, **given}
    return {"use_peft": True, **{LORA_KEYS[name]: value for name, value in told.items()}}


def quantization_settings(config: BitsAndBytesConfig | None) -> dict[str, Any]:
    """The command line's keys for weights in fewer bits; `quantization_config` if it has none."""
    if config is None:
        return {}
    given = _changed(config.to_dict(), BitsAndBytesConfig().to_dict(), FILLED_BNB)
    if config.load_in_4bit:
        given["bnb_4bit_quant_type"] = config.bnb_4bit_quant_type
    if given.keys() <= BNB_KEYS.keys():
        return {BNB_KEYS[name]: value for name, value in given.items()}
    return {"quantization_config": given}


def _changed(given: Mapping[str, Any], default: Mapping[str, Any], but: Any) -> dict[str, Any]:
    """What isn't at its default, as YAML has it; sets in order."""
    return {
        name: sorted(value) if isinstance(value, set) else plain(value)
        for name, value in given.items()
        if value != default.get(name) and name not in but and not name.startswith("_")
    }
