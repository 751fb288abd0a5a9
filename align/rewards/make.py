"""A reward from config keys: those of TRL, and `reward_column`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from .column import ColumnReward
from .function import FunctionReward, PlainReward
from .model import ModelReward
from .reward import Reward

KEYS = ("reward_model_name_or_path", "reward_funcs", "reward_column")


def make_reward(
    *,
    reward_model_name_or_path: str | None = None,
    reward_funcs: str | Sequence[str] | None = None,
    reward_column: str | None = None,
    **of_model: Any,
) -> Reward:
    """Make the reward that exactly one of TRL's two keys, or ours, names.

    Args:
        reward_model_name_or_path: Hub id or folder of a sequence classifier with one logit.
        reward_funcs: Dotted path of one function; a list of one, as in TRL's files, too.
        reward_column: A column of the data.
        **of_model: Further attributes of `ModelReward`; those that are None are left out.

    Raises:
        ValueError: Not exactly one is named, several functions are, or a reward that isn't a
            model's gets options of one.
    """
    funcs = [reward_funcs] if isinstance(reward_funcs, str) else list(reward_funcs or ())
    if len(funcs) > 1:
        raise ValueError(
            f"reward_funcs names one function, got {', '.join(funcs)}. Write one that adds them up."
        )
    function = funcs[0] if funcs else None
    named = dict(zip(KEYS, (reward_model_name_or_path, function, reward_column), strict=True))
    chosen = [key for key, value in named.items() if value is not None]
    if len(chosen) != 1:
        raise ValueError(
            f"a reward is exactly one of {', '.join(KEYS)}, got {' and '.join(chosen) or 'none'}."
        )
    given = {name: value for name, value in of_model.items() if value is not None}
    if reward_model_name_or_path is not None:
        return ModelReward(reward_model_name_or_path, **given)
    if given:
        raise ValueError(
            f"{', '.join(given)} are of a reward model, got {chosen[0]}. Leave them out."
        )
    return FunctionReward(function) if function is not None else ColumnReward(str(reward_column))


def as_reward(given: Reward | Callable[..., Sequence[Any]]) -> Reward:
    """Take a reward, or make one of a function with the signature of TRL's.

    Args:
        given: A reward; or `f(prompts, completions, **columns)`, called as `PlainReward` says.
    """
    if isinstance(given, Reward):
        return given
    return PlainReward(given, getattr(given, "__qualname__", type(given).__qualname__))


def called(reward: Reward) -> str:
    """What a sentence calls a reward: its path, name or model, else its kind."""
    names = (getattr(reward, one, None) for one in ("path", "name", "model"))
    return next((str(name) for name in names if name), type(reward).__name__)


def reward_keys(reward: Reward | None) -> dict[str, Any] | None:
    """The config keys that name a reward; None if no file can hold it.

    Args:
        reward: Any; no reward has no keys.
    """
    if reward is None:
        return {}
    if isinstance(reward, FunctionReward):
        return {"reward_funcs": [reward.path]}
    if isinstance(reward, ColumnReward):
        return {"reward_column": reward.name}
    if not isinstance(reward, ModelReward):
        return None
    changed = {
        spec.name: getattr(reward, spec.name)
        for spec in fields(reward)
        if spec.name != "model" and getattr(reward, spec.name) != spec.default
    }
    named: Mapping[str, Any] = {f"reward_{name}": value for name, value in changed.items()}
    return {"reward_model_name_or_path": reward.model, **named}
