"""Options of `contralign train` that don't go together, or ask for what isn't there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contralign.align.copg_trainer import check_reward
from contralign.align.course import course, refuse_another
from contralign.align.kept import kept_course, to_resume
from contralign.align.mpo.checks import check_whole
from contralign.align.mpo.files import check_place
from contralign.align.mpo.prompts import check_reward as check_judge
from contralign.align.record import all_settings, plain
from contralign.align.saving import refuse_used

if TYPE_CHECKING:
    from trl import ModelConfig

    from .train_options import Options

# Keys that say nothing without another one -> that one, and what would happen.
ONLY_WITH: Mapping[str, tuple[str, str]] = {
    "lora_": ("use_peft", "all weights would be trained"),
    "use_dora": ("use_peft", "all weights would be trained"),
    "use_rslora": ("use_peft", "all weights would be trained"),
    "bnb_": ("load_in_4bit", "the weights stay as they are"),
    "use_bnb_": ("load_in_4bit", "the weights stay as they are"),
}
LANGUAGE = ("CAUSAL_LM",)
# TRL's default is that of a language model, which a reward model's adapter isn't for.
TASKS: Mapping[str, tuple[str, ...]] = {"reward": (*LANGUAGE, "SEQ_CLS")}


def check(options: Options) -> None:
    """Refuse options that don't go together, or that ask for what isn't there.

    Raises:
        ValueError: With the key, its value and the way out.
    """
    _check_model(options.model, TASKS.get(options.method, LANGUAGE))
    _check_data(options)
    if options.method == "copg":
        check_reward(options.config, options.reward)
    if options.method == "mpo":
        check_judge(options.reward)
        check_whole(options.config)
    _check_folder(options)


def _check_model(model: ModelConfig, tasks: tuple[str, ...]) -> None:
    if model.model_name_or_path is None:
        raise ValueError("training starts from a model, got none. Set model_name_or_path.")
    if model.lora_task_type not in tasks:
        raise ValueError(
            f"lora_task_type isn't supported, got {model.lora_task_type!r}: it follows from the "
            "method. Leave it out."
        )
    for key in changed(model):
        for start, (needed, otherwise) in ONLY_WITH.items():
            if key.startswith(start) and not getattr(model, needed):
                raise ValueError(
                    f"{key} says nothing without {needed}: {otherwise}. Set {needed}: true, or "
                    f"leave {key} out."
                )
    if model.lora_r < 1:
        raise ValueError(f"lora_r must be at least 1, got {model.lora_r}.")


def _check_data(options: Options) -> None:
    script, mixture = options.script, options.mixture
    if script.ignore_bias_buffers:
        raise ValueError("ignore_bias_buffers isn't supported: no model here needs it.")
    named = [script.dataset_name is not None, bool(mixture.datasets)]
    if sum(named) != 1:
        raise ValueError(
            f"data is either dataset_name or datasets, got {'both' if all(named) else 'neither'}. "
            "Name a file, a folder or a hub id as dataset_name, or list several as datasets."
        )
    of_one = [key for key in changed(script) if key != "dataset_name"]
    if mixture.datasets and of_one:
        raise ValueError(
            f"{of_one[0]} goes with dataset_name, got datasets. Each of them has name and split of "
            "its own, and streaming and test_split_size are of all."
        )
    if script.dataset_name and mixture.streaming:
        raise ValueError("streaming goes with datasets, got dataset_name. Set dataset_streaming.")


def _check_folder(options: Options) -> None:
    given = options.config.output_dir
    folder = Path(given)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (given and place.is_dir() and os.access(place, os.W_OK)):
        raise ValueError(
            f"output_dir is a folder to write to, got {given!r}, but {place} isn't one. Choose "
            "another."
        )
    if options.method == "mpo":
        check_place(folder, options.resume)
        return
    if options.resume is None:
        refuse_used(folder)
        return
    checkpoint = to_resume(folder, options.resume)
    if checkpoint is not None:
        settings = all_settings(options.record(()), options.config)
        now, then = course(settings), kept_course(checkpoint)["settings"]
        # Left out, it is chosen when the model is there.
        now.setdefault("reference", then.get("reference"))
        refuse_another(checkpoint, then, now)


def changed(part: Any) -> dict[str, Any]:
    """The keys of a dataclass that aren't at their defaults."""
    default = plain(type(part)())
    return {key: value for key, value in plain(part).items() if value != default[key]}
