"""The options of MPO: those of both stages, of the split, and each stage's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import trl
from transformers import GenerationConfig
from transformers.utils import is_liger_kernel_available

from contralign.decoding.checks import positive, whole

from ..config import (
    DPOConfig,
    PreferenceConfig,
    choose_precision,
    name_checkpointing,
    require_folder,
)
from ..record import settings
from ..refusals import unknown
from ..vllm_options import check_use
from .files import FIRST, SECOND
from .split import Negative, Rule

# Keys of both stages together, or of none.
SHARED = (
    *("output_dir", "resume_from_checkpoint", "model_init_kwargs", "trust_remote_code"),
    *("push_to_hub", "remove_unused_columns", "reward_funcs", "reward_model_name_or_path"),
)
# Stage 1 evaluates on held-out pairs; stage 2 has its reward in the log.
OF_FIRST = (
    *("eval_", "do_eval", "metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
    *("num_generations_eval", "sync_ref_model", "ref_model_"),
)
# Stage 2 is given its policy, and TRL loads the reference as that policy was.
NOT_SECOND = (*OF_FIRST, "model_init_kwargs")


@dataclass
class OnlineConfig(trl.RLOOConfig):
    """Options of stage 2: those of TRL's `RLOOTrainer`.

    Attributes:
        num_generations: Samples a prompt, at least 2: the baseline leaves one out. 4 is ours.
        max_completion_length: Tokens of the longest sample; 128 is ours.
        beta: How strongly the policy is held to that of stage 1, above 0.
        disable_dropout: Always true, so that the KL starts at 0.
        logging_nan_inf_filter: Off: a loss that isn't finite stops the run.
        restore_callback_states_from_checkpoint: On, as in stage 1.
    """

    num_generations: int = 4
    max_completion_length: int = 128
    disable_dropout: bool = True
    logging_nan_inf_filter: bool = False
    restore_callback_states_from_checkpoint: bool = True

    @property
    def online(self) -> bool:
        """A reward scores samples, so the run depends on it."""
        return True

    def __post_init__(self) -> None:
        require_folder(self)
        whole("num_generations", self.num_generations, 2)
        whole("max_completion_length", self.max_completion_length, 1)
        for name in ("beta", "temperature", "repetition_penalty", "epsilon"):
            positive(name, getattr(self, name))
        if not self.disable_dropout:
            raise ValueError(
                "stage 2 starts with KL 0 to its reference, which dropout would blur, got "
                "disable_dropout: false. Leave it out."
            )
        whole("num_iterations", self.num_iterations, 1)
        whole("top_k", self.top_k, 0)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}. 1 leaves out no token.")
        if self.reward_weights is not None:
            raise ValueError(
                f"reward_weights is of several rewards, got {self.reward_weights} for one. Leave "
                "it out."
            )
        check_use(self)
        choose_precision(self)
        half = "bf16" if self.bf16 else "fp16" if self.fp16 else None
        if self.use_transformers_continuous_batching and half:
            raise ValueError(
                f"for continuous batching TRL rounds the policy's weights to {half} in place, got "
                f"{half}: true. Set bf16: false, or use_transformers_continuous_batching: false."
            )
        name_checkpointing(self)
        super().__post_init__()
        _check_generation(self)


@dataclass
class MPOConfig(PreferenceConfig):
    """Options of `MPOTrainer`: those of `PreferenceConfig`, for both stages, and what is MPO's.

    Evaluation, `reference`, `sync_ref_model` and `log_prob_path` are of stage 1: stage 2 is held to
    the stage-1 policy, and its reward and KL are in the log.

    Attributes:
        gamma: The smallest gap of an easy pair, in units of the reward.
        gamma_quantile: The same as a quantile of the gaps. Default: 0.5, which is ours, as the
            paper's gamma couldn't be obtained.
        negative_gaps: What becomes of pairs whose rejected answer has the higher reward: difficult,
            drop, or flip.
        stage1: Options of `DPOConfig` that are stage 1's alone: beta, learning_rate, ...
        stage2: Options of TRL's `RLOOConfig` that are stage 2's alone: num_generations, beta,
            max_completion_length, temperature, ...
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        *PreferenceConfig._VALID_DICT_FIELDS,
        FIRST,
        SECOND,
    ]

    gamma: float | None = None
    gamma_quantile: float | None = None
    negative_gaps: Negative = "difficult"
    stage1: dict[str, Any] | str | None = None
    stage2: dict[str, Any] | str | None = None

    @property
    def rule(self) -> Rule:
        """How pairs are split."""
        return Rule(self.gamma, self.gamma_quantile, self.negative_gaps)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.push_to_hub:
            raise ValueError(
                "push_to_hub isn't supported by MPO, whose stages would each be pushed. Upload the "
                "result: hf upload."
            )
        _ = self.rule
        self.first(Path(self.output_dir))
        self._check_room(self.second(Path(self.output_dir)).max_completion_length)

    def _check_room(self, longest: int) -> None:
        if self.max_length is not None and longest >= self.max_length:
            raise ValueError(
                f"max_length holds a prompt and a sample, got {self.max_length} with "
                f"max_completion_length {longest} of stage2. Lower the latter."
            )

    def first(self, run: Path) -> DPOConfig:
        """The options of stage 1.

        Args:
            run: The folder of the whole run.

        Raises:
            ValueError: They can't be; names the stage.
        """
        return _stage(FIRST, DPOConfig, self, self.stage1, run)

    def second(self, run: Path) -> OnlineConfig:
        """The options of stage 2, likewise."""
        return _stage(SECOND, OnlineConfig, self, self.stage2, run, NOT_SECOND)


def _check_generation(config: OnlineConfig) -> None:
    """Refuse what TRL or transformers would refuse, or pass over, only after stage 1."""
    if config.use_liger_kernel and not is_liger_kernel_available():
        raise ValueError(
            "use_liger_kernel needs liger-kernel, which isn't installed: pip install liger-kernel, "
            "or leave it out."
        )
    known = vars(GenerationConfig())
    for name in config.generation_kwargs or {}:
        if name not in known and not config.use_vllm:
            raise ValueError(f"generation_kwargs: {unknown(name, known)}")
    if not config.use_vllm:
        GenerationConfig(cache_implementation=config.cache_implementation)


def _stage(
    name: str, kind: Any, config: MPOConfig, own: Any, run: Path, but: tuple[str, ...] = ()
) -> Any:
    """Options of one stage: those of both, and on top its own."""
    known = {spec.name: spec for spec in dataclasses.fields(kind) if spec.init}
    given = {key: _read(name, key, value, known, but) for key, value in _own(name, own).items()}
    common = {
        key: value
        for key, value in settings(config).items()
        if key in known and not key.startswith((*but, "output_dir"))
    }
    try:
        return kind(**{**common, **given, "output_dir": str(run / name)})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _own(name: str, own: Any) -> Mapping[str, Any]:
    if not isinstance(own, Mapping | None):
        raise ValueError(f"{name} maps keys to values, got {own!r}. Write it as JSON.")
    return own or {}


def _read(name: str, key: str, value: Any, known: Mapping[str, Any], but: tuple[str, ...]) -> Any:
    if key not in (*known, *SHARED):
        raise ValueError(f"{name}: {unknown(key, known)}")
    if key in SHARED:
        raise ValueError(f"{name}: {key} isn't of one stage, got {value!r}. Leave it out there.")
    if key.startswith(but):
        raise ValueError(
            f"{name}: {key} isn't supported, got {value!r}: the reference stays the stage-1 "
            "policy, and evaluation is of stage 1. Leave it out."
        )
    default = known[key].default
    if isinstance(value, str) and isinstance(default, bool):
        raise ValueError(f"{name}: {key} is true or false, got {value!r}.")
    if isinstance(value, str) and isinstance(default, (int, float)):
        # YAML takes 1e-6 for text.
        try:
            return int(value) if isinstance(default, int) else float(value)
        except ValueError:
            raise ValueError(f"{name}: {key} is a number, got {value!r}.") from None
    return value
