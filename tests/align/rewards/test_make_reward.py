"""Config keys -> rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from contralign.align.rewards import (
    ColumnReward,
    FunctionReward,
    ModelReward,
    Reward,
    as_reward,
    make_reward,
)
from contralign.align.rewards.make import reward_keys


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


@pytest.mark.parametrize(
    ("reward", "keys"),
    [
        (None, {}),
        (FunctionReward("a.b"), {"reward_funcs": ["a.b"]}),
        (ColumnReward("score"), {"reward_column": "score"}),
        (
            ModelReward("m", batch_size=2, on_long="cut"),
            {
                "reward_model_name_or_path": "m",
                "reward_batch_size": 2,
                "reward_on_long": "cut",
            },
        ),
        (as_reward(len), None),
    ],
)
def test_the_keys_of_a_reward(reward: Any, keys: Any) -> None:
    assert reward_keys(reward) == keys


def test_a_function_is_taken_as_a_reward() -> None:
    def known(completions: Sequence[str], hint: Sequence[str]) -> list[float]:
        return [float(len(said)) for said in completions]

    reward = as_reward(known)
    assert as_reward(reward) is reward
    assert reward(["a"], ["bc"], hint=["x"], other=[1]) == [2.0]
    told = str(reward.fingerprint()["function"])
    assert told.endswith("known")
    with pytest.raises(ValueError, match=f"{told} reads the column 'hint'"):
        reward.check(["other"])
