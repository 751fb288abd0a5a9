"""The options of HyPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from align_runs import config

from contralign.align import HyPO, HyPOConfig
from contralign.commands.data import LONGEST


def test_the_loss_is_made_of_them(tmp_path: Path) -> None:
    given = {"beta": 0.2, "lmbda": 0.5, "baseline": "leave_one_out", "num_generations": 2}
    assert config(tmp_path, HyPOConfig, **given).loss() == HyPO(0.2, 0.5, "leave_one_out")


def test_samples_need_room_behind_the_prompt(tmp_path: Path) -> None:
    given = {"max_length": 20, "max_completion_length": 8}
    online = config(tmp_path, HyPOConfig, **given)
    assert online.needs.room == 8
    assert config(tmp_path, HyPOConfig, lmbda=0, max_length=20).needs.room == 1


def test_data_check_leaves_as_much_room() -> None:
    assert HyPOConfig.max_completion_length == LONGEST


def test_more_is_measured_where_there_are_samples(tmp_path: Path) -> None:
    drawn = {"samples/kl", "samples/length", "completions/clipped"}
    assert drawn <= {*config(tmp_path, HyPOConfig).measured}
    assert not drawn & {*config(tmp_path, HyPOConfig, lmbda=0).measured}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lmbda": -1.0}, "lmbda must be at least 0, got -1"),
        ({"lmbda": float("nan"), "temperature": 0.5}, "lmbda must be .*got nan"),
        ({"lmbda": -0.1, "max_completion_length": 8}, r"lmbda must be at least 0, got -0\.1"),
        ({"online_prompts": 9}, "per_device_train_batch_size is 4, got 9. Leave it out"),
        (
            {"model_init_kwargs": "{revision: 1"},
            r"model_init_kwargs maps .*'\{revision: 1': ",
        ),
        ({"baseline": "leave_one_out"}, "got num_generations: 1. Set 2 or more"),
        ({"num_generations": 0}, "num_generations must be at least 1, got 0"),
        ({"online_prompts": 0}, "online_prompts must be at least 1, got 0"),
        ({"reference": "none"}, "got reference: none. Set it to base"),
        ({"reference": "cached"}, "got reference: cached with online samples"),
        ({"max_length": 128}, "max_length holds a prompt and a sample, got 128"),
        ({"lmbda": 0, "temperature": 0.5}, r"temperature is of samples, got 0\.5 .* lmbda above 0"),
        ({"lmbda": 0, "online_prompts": 2}, "online_prompts is of samples, got 2 where none"),
    ],
)
def test_refuses(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(tmp_path, HyPOConfig, **given)
