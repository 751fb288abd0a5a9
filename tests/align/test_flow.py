"""A line of the log before each evaluation and after the last update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from align_runs import logged, rows, trained

HELD_OUT = {"eval_dataset": rows(4, seed=1)}


def steps(run: Any, key: str) -> list[int]:
    return [line["step"] for line in run.state.log_history if key in line]


@pytest.mark.parametrize(
    ("options", "lines", "evaluations"),
    [
        ({}, [3], []),
        ({"logging_steps": 2}, [2, 3], []),
        ({"logging_strategy": "no"}, [], []),
        ({**HELD_OUT, "eval_strategy": "steps", "eval_steps": 2}, [2, 3], [2, 3]),
        ({**HELD_OUT, "eval_strategy": "epoch"}, [3], [3]),
        ({"num_train_epochs": 2, "logging_strategy": "epoch"}, [3, 6], []),
    ],
)
def test_a_line_is_logged_where_it_is_needed(
    tmp_path: Path, options: dict[str, Any], lines: list[int], evaluations: list[int]
) -> None:
    run = trained(tmp_path, **{"logging_steps": 100, **options})
    assert steps(run, "loss") == lines
    assert steps(run, "eval_loss") == evaluations


def test_the_last_line_is_of_all_updates_since_the_one_before(tmp_path: Path) -> None:
    each = logged(trained(tmp_path / "each"), "loss")
    last = logged(trained(tmp_path / "last", logging_steps=100), "loss")
    assert last == pytest.approx([sum(each) / 3])


def test_training_comes_before_the_evaluation_of_its_update(tmp_path: Path) -> None:
    run = trained(tmp_path, logging_steps=100, eval_strategy="epoch", **HELD_OUT)
    told = [
        next(key for key in ("loss", "eval_loss", "train_runtime") if key in line)
        for line in run.state.log_history
        if line["step"]
    ]
    assert told == ["loss", "eval_loss", "train_runtime"]
