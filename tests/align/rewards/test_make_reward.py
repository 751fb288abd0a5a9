"""Config keys -> rewards."""

from __future__ import annotations

from typing import Any

import pytest

from contralign.align.rewards import (
    ColumnReward,
    FunctionReward,
    ModelReward,
    Reward,
    make_reward,
)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"reward_model_name_or_path": "org/m"}, ModelReward("org/m")),
        (
            {"reward_model_name_or_path": "org/m", "batch_size": 2, "device": None},
            ModelReward("org/m", batch_size=2),
        ),
        ({"reward_funcs": "a.b"}, FunctionReward("a.b")),
        ({"reward_funcs": ["a.b"]}, FunctionReward("a.b")),
        ({"reward_column": "r", "reward_funcs": []}, ColumnReward("r")),
    ],
)
def test_what_keys_make(given: dict[str, Any], made: Any) -> None:
    assert make_reward(**given) == made
    assert isinstance(made, Reward)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "exactly one of reward_model_name_or_path, reward_funcs, reward_column, got none"),
        ({"reward_funcs": "a.b", "reward_column": "r"}, "got reward_funcs and reward_column"),
        ({"reward_funcs": ["a.b", "c.d"]}, "names one function, got a.b, c.d"),
        ({"reward_funcs": "a.b", "dtype": "auto"}, "dtype are of a reward model, got reward_funcs"),
    ],
)
def test_keys_that_make_none(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_reward(**given)
