"""A resumed run is the unbroken one, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import LORA, Untold, learned, lines, logged, rows, trained, trainer
from datasets import Dataset
from peft import LoraConfig

from contralign.align.course import course, digest

GIVEN: dict[str, Any] = {"train_dataset": rows(21), "save_strategy": "steps", "save_steps": 4}
LINEAR = {"lr_scheduler_type": "linear", "warmup_steps": 0, "max_steps": 9, "beta": 0.1}


def test_what_decides_an_update_is_chosen() -> None:
    free = {"output_dir": "a", "eval_steps": 3, "save_total_limit": 1, "dataset_name": "d"}
    shares = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert course({**LINEAR, **free, **shares, "data_seed": None}) == LINEAR
    steady = {**LINEAR, "lr_scheduler_type": "constant_with_warmup"}
    assert "max_steps" not in course({**steady, "warmup_steps": 5})
    assert "max_steps" in course({**steady, "warmup_steps": 0.5})


def test_rows_are_named_by_what_they_say() -> None:
    first = digest(rows(5))
    assert digest(rows(5)) == first
    shuffled = rows(5).shuffle(seed=1)
    assert digest(shuffled) != first
    assert digest(shuffled.flatten_indices()) == digest(shuffled)
    changed = [{**row, "chosen": row["chosen"] + "."} for row in rows(5)]
    assert digest(Dataset.from_list(changed)) != first
    assert digest(rows(5, image="a")) == digest(rows(5, image="b"))
    assert digest(rows(5).to_iterable_dataset()) is None


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("unbroken"), **GIVEN)


def checkpoint(run: Any, step: int = 4) -> str:
    return str(Path(run.args.output_dir) / f"checkpoint-{step}")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"beta": 0.2}, "settings.beta was 0.1, is 0.2"),
        ({"loss_type": "ipo"}, "settings.loss_type"),
        ({"learning_rate": 1e-3}, "settings.learning_rate was 0.01, is 0.001"),
        ({"num_train_epochs": 2}, "settings.num_train_epochs was 1, is 2"),
        ({"per_device_train_batch_size": 2}, "examples of an update was 4, is 2"),
        ({"seed": 1}, "settings.seed"),
        ({"peft_config": LoraConfig(**{**LORA, "r": 2})}, "settings.lora_r was 4, is 2"),
        ({"lora": False}, "settings.use_peft was True, is None"),
        ({"train_dataset": rows(21, seed=3)}, "training data was"),
    ],
)
def test_another_run_is_refused_by_what_differs(
    tmp_path: Path, unbroken: Any, options: dict[str, Any], complaint: str
) -> None:
    other = trainer(tmp_path, make=Untold, **{**GIVEN, **options})
    with pytest.raises(ValueError, match="is of a run with other settings") as refused:
        other.train(checkpoint(unbroken))
    assert complaint in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_is_told_and_kept_may_change(tmp_path: Path, unbroken: Any) -> None:
    shares = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    told = {"logging_steps": 2, "save_steps": 3, "gradient_checkpointing": True}
    run = trainer(tmp_path, make=Untold, **{**GIVEN, **shares, **told})
    run.train(checkpoint(unbroken))
    assert [line["step"] for line in lines(run, after=4) if "loss" in line] == [6]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert torch.allclose(learned(run), learned(unbroken), atol=1e-5)


def test_at_a_steady_learning_rate_a_run_can_become_longer(tmp_path: Path) -> None:
    steady = {**GIVEN, "lr_scheduler_type": "constant"}
    short = trained(tmp_path / "short", max_steps=4, **steady)
    long = trained(tmp_path / "long", max_steps=8, **steady)
    run = trainer(tmp_path / "short", make=Untold, max_steps=8, **steady)
    run.train(True)
    assert torch.equal(learned(run), learned(long))
    assert not torch.equal(learned(short), learned(long))


@pytest.mark.parametrize("length", [{}, {"max_steps": 4}])
def test_a_run_that_is_over_trains_nothing_and_says_so(
    tmp_path: Path, length: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = trained(tmp_path, **GIVEN, **length)
    run, said = trainer(tmp_path, make=Untold, **GIVEN, **length), []
    monkeypatch.setattr(run, "_warn", said.append)
    run.train(True)
    step = over.state.global_step
    assert said == [f"Nothing is left to train: the checkpoint is after update {step} of {step}."]
    assert torch.equal(learned(run), learned(over))
    assert logged(run, "loss") == logged(over, "loss")


def test_a_run_is_not_written_over(unbroken: Any) -> None:
    again = trainer(unbroken.args.output_dir, make=Untold, **GIVEN)
    with pytest.raises(ValueError, match=r"holds a run already \(checkpoint-6\)"):
        again.train()
