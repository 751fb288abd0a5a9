"""A resumed run is the unbroken one, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import LORA, Untold, learned, lines, logged, rows, trained, trainer
from datasets import Dataset
from eval_doubles import tiny_llama
from peft import LoraConfig

from contralign.align.course import course, digest
from contralign.align.kept import to_resume

GIVEN: dict[str, Any] = {"train_dataset": rows(21), "save_strategy": "steps", "save_steps": 4}
LINEAR = {"lr_scheduler_type": "linear", "warmup_steps": 0, "max_steps": 9, "beta": 0.1}


def test_what_decides_an_update_is_chosen() -> None:
    free = {"output_dir": "a", "eval_steps": 3, "save_total_limit": 1, "dataset_name": "d"}
    free |= {"use_transformers_continuous_batching": True, "vllm_server_port": 80}
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
        ({"metric_for_best_model": "kl"}, "settings.metric_for_best_model was None, is 'kl'"),
        ({"early_stopping_threshold": 0.1}, "settings.early_stopping_threshold was 0.0, is 0.1"),
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


def test_a_model_in_memory_is_known_by_its_weights(tmp_path: Path, unbroken: Any) -> None:
    other = tiny_llama()
    other.model.norm.weight.data.mul_(2)
    with pytest.raises(ValueError, match=r"weights was '.*', is '"):
        trainer(tmp_path, make=Untold, **GIVEN, model=other).train(checkpoint(unbroken))


def test_held_out_rows_may_come_and_go_but_not_be_others(tmp_path: Path) -> None:
    evaluated = {**GIVEN, "eval_strategy": "steps", "eval_steps": 4}
    run = trained(tmp_path / "one", **evaluated, eval_dataset=rows(4, seed=1))
    other = trainer(tmp_path / "two", make=Untold, **evaluated, eval_dataset=rows(4, seed=2))
    with pytest.raises(ValueError, match=r"held-out data\.evaluation was '.*', is '"):
        other.train(checkpoint(run))
    without = trainer(tmp_path / "two", make=Untold, **GIVEN)
    without.train(checkpoint(run))
    assert torch.equal(learned(without), learned(run))


def test_one_thing_may_have_several_names(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    relative, absolute = ({"model_name_or_path": x} for x in (model_folder.name, str(model_folder)))
    assert course({**LINEAR, **relative}) == course({**LINEAR, **absolute})
    assert course({**LINEAR, "reference": "cached"}) == course({**LINEAR, "reference": "base"})
    one, another = ({"lora_target_modules": x} for x in ("q_proj", ["q_proj"]))
    assert course({**LINEAR, **one}) == course({**LINEAR, **another})


def test_a_run_whose_cache_is_gone_goes_on_with_the_base_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))
    full = {**GIVEN, "lora": False}
    run = trained(tmp_path / "run", **full, reference="cached")
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "another"))
    lost = trainer(tmp_path / "lost", make=Untold, **full, reference="cached")
    with pytest.raises(ValueError, match="or set reference: base"):
        lost.train(checkpoint(run))
    found = trainer(tmp_path / "found", make=Untold, **full, reference="base")
    found.train(checkpoint(run))
    assert torch.allclose(learned(found), learned(run), atol=1e-6)


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


def test_a_run_that_stopped_early_stays_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is learned is wrong on these: the second evaluation is no better than the first.
    swapped = rows(21).rename_columns({"chosen": "rejected", "rejected": "chosen"})
    impatient = {"metric_for_best_model": "loss", "early_stopping_patience": 1}
    evaluated = {"eval_dataset": swapped, "eval_strategy": "steps", "eval_steps": 2}
    options = {**GIVEN, "save_steps": 2, "num_train_epochs": 3, **evaluated, **impatient}
    stopped = trained(tmp_path, **options)
    assert stopped.state.global_step < stopped.state.max_steps
    run, said = trainer(tmp_path, make=Untold, **options), []
    monkeypatch.setattr(run, "_warn", said.append)
    run.train(True)
    assert run.state.global_step == stopped.state.global_step
    assert torch.equal(learned(run), learned(stopped))
    assert "where it stopped early" in said[0]


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
@pytest.mark.parametrize("named", [True, False])
def test_a_checkpoint_of_another_program_is_no_start(
    tmp_path: Path, text: str | None, named: bool
) -> None:
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    (folder / "trainer_state.json").write_text("{}")
    if text:
        (folder / "journal.json").write_text(text)
    with pytest.raises(ValueError, match=r"checkpoint-3 is no whole checkpoint of contralign"):
        to_resume(tmp_path, str(folder) if named else True)


def test_a_run_is_not_written_over(unbroken: Any) -> None:
    again = trainer(unbroken.args.output_dir, make=Untold, **GIVEN)
    with pytest.raises(ValueError, match=r"holds a run already \(checkpoint-6\)"):
        again.train()
