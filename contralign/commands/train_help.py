"""What `contralign train METHOD --help` says: the keys that matter most, in the order of a run."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments

from contralign.align.config import PreferenceConfig
from contralign.align.refusals import TRL_KEYS

from .options import attributes
from .train_options import CONFIGS, MORE, kinds, parser

WIDTH = 96
GROUPS: Mapping[str, tuple[str, ...]] = {
    "model": (
        *("model_name_or_path", "dtype", "attn_implementation", "use_peft", "lora_r"),
        *("lora_alpha", "lora_target_modules", "use_dora", "load_in_4bit"),
    ),
    "data": (
        *("dataset_name", "dataset_train_split", "dataset_test_split", "test_split_size"),
        *("dataset_streaming", "max_length", "on_problem"),
    ),
    "loss": ("loss_type", "beta", "label_smoothing", "reference", "sync_ref_model"),
    "training": (
        *("output_dir", "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs"),
        *("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
        *("gradient_checkpointing", "bf16", "log_prob_path", "seed", "self_check"),
    ),
    "log and result": (
        *("logging_steps", "report_to", "eval_strategy", "eval_steps", "eval_samples"),
        *("metric_for_best_model", "load_best_model_at_end", "early_stopping_patience"),
        *("save_strategy", "save_steps", "save_total_limit", "resume_from_checkpoint"),
        "push_to_hub",
    ),
}
DRAWN = (
    *("max_completion_length", "temperature", "refresh_every"),
    *("use_transformers_continuous_batching", "use_vllm", "vllm_mode"),
)
# Keys of one method alone -> their group.
OWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cpl": {"loss": ("alpha", "gamma", "lmbda", "kl", "average", "bc_coeff", "bc_steps")},
    "copg": {
        "data": ("reward_model_name_or_path", "reward_funcs", "reward_column"),
        "loss": ("online", "num_generations", *DRAWN),
    },
    "mpo": {
        "data": ("reward_model_name_or_path", "reward_funcs"),
        "loss": ("gamma", "gamma_quantile", "negative_gaps", "stage1", "stage2"),
    },
    "dcd": {"loss": ("variant",)},
    "hypo": {
        "loss": ("lmbda", "baseline", "num_generations", "online_prompts", *DRAWN),
    },
    "reward": {"loss": ("center_rewards_coefficient",)},
}
OUR_WORDS: Mapping[str, str] = {
    "model_name_or_path": "Hub id or folder of a model, or of an adapter to train on; or scenes.",
    "dataset_name": "File (JSON, JSONL, CSV, Parquet), folder or hub id; several: `datasets:`.",
    "test_split_size": "Rows to hold out for evaluation, from the train split; below 1: a share.",
    "resume_from_checkpoint": "true: the newest whole checkpoint; or a checkpoint's folder.",
    "report_to": "wandb, tensorboard, ... as in transformers.",
    "load_in_4bit": "QLoRA: the base in 4 bits; needs bitsandbytes and a GPU.",
    "metric_for_best_model": "Of evaluation: loss, rewards/accuracies, rewards/margins, kl, ...",
}


def text(method: str, *, everything: bool) -> str:
    """The help of a method; everything is the full list of TRL's parser."""
    if everything:
        return _everything(method)
    texts, defaults = _texts(method), _defaults(method)
    lines = [
        f"usage: contralign train {method} --config FILE [--KEY VALUE ...]",
        "",
        f"Start from configs/train/{method}.yaml. Keys are the same in the file and on the command",
        "line, which wins. Data and settings are checked before the model is loaded.",
    ]
    for group, names in GROUPS.items():
        lines += ["", f"{group}:"]
        for name in (*names, *OWN.get(method, {}).get(group, ())):
            if name in defaults:
                lines += _entry(name, texts[name], defaults[name])
    lines += [
        "",
        "All keys, with those of transformers' TrainingArguments: "
        f"contralign train {method} --help all",
    ]
    return "\n".join(lines)


def _everything(method: str) -> str:
    keys = TRL_KEYS if issubclass(CONFIGS[method], PreferenceConfig) else {}
    refused = {name: f"Not supported: {key.reason}" for name, key in keys.items()}
    told = {**_ours(method), **refused}
    made = parser(method)
    for action in made._actions:
        if action.dest in told and not action.help:
            action.help = told[action.dest].replace("%", "%%")
    return made.format_help()


def _entry(name: str, text: str, default: Any) -> list[str]:
    told = "" if default in (None, "") else f" [{default}]"
    return textwrap.wrap(
        f"{text}{told}",
        WIDTH,
        initial_indent=f"  --{name} ".ljust(33),
        subsequent_indent=" " * 33,
    )


def _texts(method: str) -> dict[str, str]:
    found = {}
    for kind in kinds(method):
        for spec in dataclasses.fields(kind):
            told = str(spec.metadata.get("help", "")).replace("%%", "%")
            found[spec.name] = f"{told.partition('. ')[0].rstrip('.')}."
    return {**found, **_ours(method)}


def _ours(method: str) -> dict[str, str]:
    kinds = [kind for kind in reversed(CONFIGS[method].__mro__) if kind is not TrainingArguments]
    parts = (*kinds, *MORE.get(method, ()))
    told = {key: text for part in parts for key, text in attributes(part).items()}
    return {**told, **OUR_WORDS}


def _defaults(method: str) -> dict[str, Any]:
    actions = parser(method)._actions
    return {action.dest: _shown(action.default) for action in reversed(actions)}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return getattr(value, "value", value)
