"""The options of `contralign train`: TRL's parser, whose complaints are one line with the key."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_peft_config,
    get_quantization_config,
)

from contralign.align.config import DPOConfig
from contralign.align.copg_config import CoPGConfig
from contralign.align.cpl_config import CPLConfig
from contralign.align.dcd_config import DCDConfig
from contralign.align.hypo_config import HyPOConfig
from contralign.align.mpo import MPOConfig
from contralign.align.record import Record
from contralign.align.reward_trainer import RewardConfig

from .options import resolved
from .train_checks import changed, check
from .train_file import refuse_unknown, take_file
from .train_reward import RewardKeys

CONFIGS: Mapping[str, type[Any]] = {
    "dpo": DPOConfig,
    "cpl": CPLConfig,
    "copg": CoPGConfig,
    "mpo": MPOConfig,
    "dcd": DCDConfig,
    "hypo": HyPOConfig,
    "reward": RewardConfig,
}
SCRIPTS = (ScriptArguments, DatasetMixtureConfig, ModelConfig)
# Keys of one method alone, beside those of its trainer.
MORE: Mapping[str, tuple[type[Any], ...]] = {"copg": (RewardKeys,), "mpo": (RewardKeys,)}


@dataclass(frozen=True)
class Options:
    """What was asked for, checked as far as it can be without data and model.

    Attributes:
        script: TRL's keys of a data set.
        config: The trainer's.
        model: TRL's keys of model and adapter.
        mixture: TRL's keys of several data sets.
        method: A name of `CONFIGS`.
        reward_keys: Ours and TRL's keys of a reward, of a method that has them.
    """

    script: ScriptArguments
    config: Any
    model: ModelConfig
    mixture: DatasetMixtureConfig
    method: str
    reward_keys: RewardKeys | None = None

    @property
    def reward(self) -> Any:
        """What scores completions, or None."""
        return None if self.reward_keys is None else self.reward_keys.reward()

    @property
    def adapter(self) -> Any:
        """The adapter to train, or None."""
        config = get_peft_config(self.model)
        # TRL makes text of a list of one, in which PEFT sees a pattern for whole names.
        if config is not None and isinstance(config.target_modules, str):
            name = config.target_modules
            config.target_modules = {name} if name.isidentifier() else name
        return config

    @property
    def quantization(self) -> Any:
        """How to load the model's weights in fewer bits, or None."""
        return get_quantization_config(self.model)

    @property
    def resume(self) -> str | bool | None:
        """What to resume from: the words true and false are meant as such."""
        said = self.config.resume_from_checkpoint
        return {"true": True, "false": None}.get(str(said).lower(), said)

    def record(self, command: Sequence[str]) -> Record:
        """What the run is remembered by."""
        parts = (self.model, self.script, self.mixture, self.reward_keys)
        told = [changed(part) for part in parts if part is not None]
        settings = {name: value for part in told for name, value in part.items()}
        for name in (
            "dtype",
            *(("lora_r", "lora_alpha", "lora_dropout") if self.model.use_peft else ()),
        ):
            settings[name] = getattr(self.model, name)
        settings["model_init_kwargs"] = self.config.model_init_kwargs
        return Record(list(command), settings, self.method)

    def loading(self) -> dict[str, Any]:
        """What `from_pretrained` is told."""
        given: Any = self.config.model_init_kwargs
        model = {
            "revision": self.model.model_revision,
            "attn_implementation": self.model.attn_implementation,
            "dtype": self.model.dtype,
        }
        return {**model, **(given or {})}


class TrainParser(TrlParser):
    """TRL's parser, which leaves complaining to the command line."""

    def error(self, message: str) -> Never:
        raise ValueError(f"{message.rstrip('.')}.")


def kinds(method: str) -> tuple[type[Any], ...]:
    """The dataclasses whose fields are a method's keys."""
    return (*SCRIPTS, CONFIGS[method], *MORE.get(method, ()))


def parser(method: str) -> TrainParser:
    """The parser of a method's options."""
    made = TrainParser(kinds(method), prog=f"contralign train {method}", allow_abbrev=False)
    # A file of the log needs no progress bar. TRL's parser would make a None of the other default.
    made.set_defaults(disable_tqdm=not sys.stderr.isatty(), debug=[])
    return made


def read(method: str, words: Sequence[str]) -> Options:
    """Read options from words and from the file that they name.

    Args:
        method: A name of `CONFIGS`.
        words: As typed; dashes in names stand for underscores.

    Raises:
        OSError: The file can't be read.
        ValueError: An option that doesn't exist, isn't supported, or doesn't go with the others.
    """
    reader = parser(method)
    files, rest = _without_config([_underscored(word) for word in words])
    for file in files:
        take_file(reader, file)
    flags = {flag for action in reader._actions for flag in action.option_strings}
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    known = {action.dest for action in reader._actions}
    refuse_unknown([flag[2:] for flag in given if flag not in flags], known)
    script, mixture, model, config, *more, left = reader.parse_args_into_dataclasses(
        rest, return_remaining_strings=True, look_for_args_file=False
    )
    if left:
        raise ValueError(f"contralign train {method} takes no word {left[0]!r} there.")
    options = Options(script, config, model, mixture, method, *more)
    named = options.model.model_name_or_path
    options.model.model_name_or_path = named and resolved(named, "model_name_or_path")
    check(options)
    return options


def _underscored(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}" if word.startswith("--") else word


def _without_config(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take `--config FILE` and `--config=FILE` out."""
    files, rest = [], []
    left = iter(words)
    for word in left:
        if word == "--config":
            files.append(next(left, ""))
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    if len(files) > 1 or files == [""]:
        raise ValueError(f"--config names one file, got {', '.join(files) or 'none'}.")
    return files, rest


def load_data(options: Options) -> dict[str, Any]:
    """Load the rows to train on, and those to evaluate on if there are evaluations.

    Raises:
        OSError: They can't be read.
        ValueError: There is no such data, or no such part of it.
    """
    from contralign.align.data import hold_out, load, load_mixture

    script, config, mixture = options.script, options.config, options.mixture
    evaluates = config.eval_strategy != "no"
    if mixture.datasets:
        parts = load_mixture(mixture, seed=config.seed)
        return {
            "train_dataset": parts["train"],
            "eval_dataset": parts.get("test") if evaluates else None,
        }
    of = {"name": script.dataset_config, "streaming": script.dataset_streaming}
    train = load(script.dataset_name, split=script.dataset_train_split, **of)
    if mixture.test_split_size is not None:
        train, test = hold_out(train, mixture.test_split_size, config.seed)
    elif evaluates:
        test = _held_out(script, of)
    return {"train_dataset": train, "eval_dataset": test if evaluates else None}


def _held_out(script: ScriptArguments, of: Mapping[str, Any]) -> Any:
    from contralign.align.data import load

    try:
        return load(script.dataset_name, split=script.dataset_test_split, **of)
    except ValueError as error:
        raise ValueError(
            f"dataset_test_split: {error} Or hold rows out with test_split_size; or set "
            "eval_strategy: no."
        ) from error
