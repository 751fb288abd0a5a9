"""The trainer's part that measures: lines of the log, what is looked up, what counts as time."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import Untold, logged, rows, trained, trainer
from pair_batches import pairs
from transformers import TrainerCallback

from contralign.align.metrics import DRIFTS, ESTIMATED, MEASURED
from contralign.align.stop import Seen, TrainingError

EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}
STEADY = {"lr_scheduler_type": "constant", "max_steps": 4}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))


def test_a_line_of_training_is_completed_and_others_are_left_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.log({"memory": 1.0})
    run.log({"loss": 0.5})
    first, second = (line.keys() - {"epoch", "step"} for line in run.state.log_history)
    assert first == {"memory"}
    assert second == {"loss", "tokens_per_second", "num_tokens"}


def test_a_line_is_not_written_over_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    broken = torch.tensor([math.nan])
    run.guard.watch(Seen(0, pairs([(1, 1)]), broken, {}))
    with pytest.raises(TrainingError, match="the loss is no longer finite"):
        run.log({"loss": 0.0})
    assert run.state.log_history == []


def test_everything_is_measured_of_rows_that_are_handed_over(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    found = run.evaluate(rows(10, seed=1), metric_key_prefix="test")
    assert found.keys() >= {f"test_{name}" for name in (*MEASURED, "loss")}
    errors = {name for name in found if name.endswith("_se")}
    measured = {"loss", "rewards/margins", "rewards/accuracies", *DRIFTS}
    assert errors == {f"test_{name}_se" for name in measured} <= {f"test_{e}_se" for e in ESTIMATED}
    assert run.sets.numbers()["data/test/rows"] == 10


@pytest.mark.parametrize(("lora", "filled"), [(True, 3), (False, 10 + 3)])
def test_what_full_fine_tuning_looks_up_is_computed_before_it_begins(
    tmp_path: Path, lora: bool, filled: int
) -> None:
    """Each answer once; with an adapter the base is still there when it's needed."""
    held_out = rows(3, seed=1)
    run = trainer(tmp_path, lora=lora, reference="cached", eval_dataset=held_out, **EVALUATED)
    reference: Any = run.reference
    run.evaluate()
    assert reference.misses == 2 * filled
    assert reference.hits == (0 if lora else 2 * 3)


def test_so_are_other_rows_that_are_handed_over(tmp_path: Path) -> None:
    run = trainer(tmp_path, lora=False, reference="cached")
    found = run.evaluate(rows(4, seed=2), metric_key_prefix="other")
    assert found["other_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_filling_the_cache_draws_no_random_numbers(tmp_path: Path) -> None:
    """A run with it follows the same course as one without."""
    states = []
    for reference in ("base", "cached"):
        run = trainer(tmp_path, lora=False, reference=reference, eval_dataset=rows(3, seed=1))
        run.evaluate()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_tokens_of_a_step_cost_six_operations_a_parameter(tmp_path: Path) -> None:
    run = trainer(tmp_path, lora=False)
    batch = pairs([(2, 1), (1, 3)])
    weights = sum(p.numel() for name, p in run.model.named_parameters() if "embed" not in name)
    assert run.floating_point_ops({"batch": batch}) == 6 * (2 * 2 + 7) * weights


def test_the_time_of_evaluations_is_not_that_of_training(tmp_path: Path) -> None:
    class Slow(TrainerCallback):
        def on_evaluate(self, *_: Any, **__: Any) -> None:
            time.sleep(1)

    run = trained(tmp_path, eval_dataset=rows(1), callbacks=[Slow()], **EVALUATED, max_steps=2)
    tokens = logged(run, "num_tokens")
    assert logged(run, "tokens_per_second")[1] > tokens[1] - tokens[0]


def test_updates_are_counted_once_each_also_when_a_run_begins_again(tmp_path: Path) -> None:
    run = trained(tmp_path / "one", save_strategy="steps", save_steps=2, **STEADY)
    assert run.journal.watch.standstill.updates == 4
    resumed = trainer(tmp_path / "two", make=Untold, **STEADY)
    resumed.train(str(tmp_path / "one" / "checkpoint-2"))
    assert resumed.journal.watch.standstill.updates == 4
    again = trained(tmp_path / "three", **STEADY)
    again.train()
    assert again.journal.watch.standstill.updates == 8
