"""CoPG's options: values out of range, and what is of samples alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from align_runs import config

from contralign.align.copg_config import CoPGConfig
from contralign.align.losses import CoPG


def test_the_loss_is_made_of_them(tmp_path: Path) -> None:
    assert config(tmp_path, CoPGConfig, beta=0.2).loss() == CoPG(0.2)


def test_online_prompts_are_all_that_is_read_and_leave_room(tmp_path: Path) -> None:
    offline = config(tmp_path, CoPGConfig, max_length=20)
    assert (offline.needs.scores, offline.needs.room, offline.scored_temperature) == (True, 1, 1)
    online = config(
        tmp_path,
        CoPGConfig,
        online=True,
        max_length=20,
        max_completion_length=8,
        temperature=0.7,
    )
    assert (online.needs.completions, online.needs.room) == ("none", 8)
    assert online.scored_temperature == 0.7


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"beta": -0.1}, "beta must be above 0, got -0.1"),
        ({"online": True, "num_generations": 1}, "num_generations must be at least 2, got 1"),
        ({"online": True, "max_completion_length": 0}, "max_completion_length must be at least 1"),
        ({"online": True, "temperature": 0.0}, "temperature must be above 0"),
        (
            {"temperature": 0.7},
            r"of samples, got 0\.7 where none are drawn. Set online",
        ),
        ({"num_generations": 8}, r"num_generations is of samples, got 8 where none are drawn"),
        ({"online": True, "reference": "cached"}, "got reference: cached with online"),
        ({"online": True, "max_length": 128}, "max_length holds a prompt and a sample, got 128"),
    ],
)
def test_refuses(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(tmp_path, CoPGConfig, **given)
