"""What a run keeps: checkpoints that it goes on from, and a result that others can use."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from align_runs import LORA, Untold, learned, lines, logged, rows, trained, trainer
from datasets import Dataset
from eval_doubles import tiny_tokenizer
from peft import AutoPeftModelForCausalLM, LoraConfig
from processes import TESTS, environment
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from contralign.align.config import DPOConfig
from contralign.align.dpo_trainer import DPOTrainer
from contralign.decoding import CAD, generate

FOLLOWS = {"sync_ref_model": True, "ref_model_sync_steps": 3, "ref_model_mixup_alpha": 0.5}
# Two epochs of six updates; the checkpoints lie in the middle of them.
GIVEN: dict[str, Any] = {
    "train_dataset": rows(21),
    "num_train_epochs": 2,
    "save_strategy": "steps",
    "save_steps": 4,
}
EVALUATED = {"eval_dataset": rows(7, seed=1), "eval_strategy": "steps", "eval_steps": 3}
COURSES: dict[str, dict[str, Any]] = {
    "adapter": {},
    "full": {"lora": False},
    "reference that follows": {**FOLLOWS, **EVALUATED},
    "reference that follows, full": {**FOLLOWS, "lora": False},
    "no reference": {"reference": "none", **EVALUATED},
    "cached reference, full": {"reference": "cached", "lora": False},
    "dropout": {
        "peft_config": LoraConfig(**LORA, lora_dropout=0.3),
        "disable_dropout": False,
        "log_prob_path": "padded",
    },
}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))


class Updates(TrainerCallback):
    """Remembers which updates were made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.made.append(state.global_step)


def resumed(folder: Path, where: str | bool, **options: Any) -> tuple[DPOTrainer, list[int]]:
    """A run that goes on from a checkpoint, and the updates that it made."""
    updates = Updates()
    run = trainer(folder, make=Untold, **GIVEN, **options, callbacks=[updates])
    run.train(where)
    return run, updates.made


@pytest.mark.parametrize("name", COURSES)
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, name: str) -> None:
    unbroken = trained(tmp_path, **GIVEN, **COURSES[name])
    run, made = resumed(tmp_path, str(tmp_path / "checkpoint-8"), **COURSES[name])
    assert made == [9, 10, 11, 12]
    assert lines(run) == lines(unbroken)
    assert torch.equal(learned(run), learned(unbroken))


def test_patience_goes_on_where_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Nothing gets better at a learning rate of 0: the first evaluation is the best.
    options = {
        "eval_dataset": rows(7, seed=1),
        "eval_strategy": "steps",
        "eval_steps": 2,
        "learning_rate": 0.0,
        "metric_for_best_model": "rewards/accuracies",
        "early_stopping_patience": 3,
    }
    unbroken = trained(tmp_path, **GIVEN, **options)
    assert caplog.text.count("learning_rate is 0: nothing will be trained") == 1
    assert unbroken.state.global_step == 8
    run, made = resumed(tmp_path, str(tmp_path / "checkpoint-4"), **options)
    assert made == [5, 6, 7, 8]
    assert lines(run) == lines(unbroken)


@pytest.mark.parametrize("broken", ["gone", "cut"])
def test_true_is_the_newest_whole_checkpoint(tmp_path: Path, broken: str) -> None:
    unbroken = trained(tmp_path, **GIVEN)
    state = tmp_path / "checkpoint-12" / "trainer_state.json"
    text = state.read_text()
    state.unlink()
    if broken == "cut":
        state.write_text(text[: len(text) // 2])
    run, made = resumed(tmp_path, True)
    assert made == [9, 10, 11, 12]
    assert torch.equal(learned(run), learned(unbroken))
    assert state.read_text().startswith("{")


@pytest.mark.parametrize("name", [True, "nowhere"])
def test_says_that_there_is_nothing_to_resume_from(tmp_path: Path, name: str | bool) -> None:
    run = trainer(tmp_path, **GIVEN)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        run.train(name)


class FullDisk(TrainerCallback):
    """From an update on, no file gets longer than so many bytes: the system refuses to write."""

    def __init__(self, after: int, size: int) -> None:
        self.after, self.size = after, size

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    return trained(tmp_path_factory.mktemp("unbroken"), **GIVEN, lora=False)


# What doesn't fit any more: the config, the weights, the optimizer's state, the last of it.
@pytest.mark.parametrize("size", [100, 20_000, 40_000, 60_000])
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, unbroken: DPOTrainer, size: int
) -> None:
    run = trainer(tmp_path, make=Untold, **GIVEN, lora=False, callbacks=[FullDisk(5, size)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"checkpoint-8 couldn't be written \(.*checkpoint-4 is"):
            run.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "train.yaml"]
    again, made = resumed(tmp_path, True, lora=False)
    assert made == list(range(5, 13))
    assert lines(again) == lines(unbroken)
    assert torch.equal(learned(again), learned(unbroken))


class Killed(TrainerCallback, ExportableState):
    """Kills the process in the middle of a checkpoint: all is written but what makes it whole."""

    def state(self) -> dict[str, Any]:
        if (Path(sys.argv[1]) / "checkpoint-8" / "optimizer.pt").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"args": {}, "attributes": {}}


ALONE = """
import sys
import torch
from align_runs import learned, lines, trained
from test_kept import GIVEN, Killed, resumed

folder, part = sys.argv[1:]
made = []
if part == "resumed":
    run, made = resumed(folder, True, lora=False)
else:
    run = trained(folder, **GIVEN, lora=False, callbacks=[Killed()] if part == "killed" else [])
torch.save((made, lines(run), learned(run)), f"{folder}/{part}.pt")
"""


def alone(folder: Path, part: str) -> subprocess.CompletedProcess[str]:
    """A run, or part of one, in a process of its own: in this one sums differ in the last bit."""
    here = Path(__file__).parent
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), part],
        env=environment(folder, PYTHONPATH=os.pathsep.join(map(str, (here, TESTS, TESTS.parent)))),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = alone(broken, "killed")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (broken / "checkpoint-8" / "optimizer.pt").exists()
    for folder, part in ((broken, "resumed"), (whole, "whole")):
        done = alone(folder, part)
        assert done.returncode == 0, done.stderr
    made, log, weights = torch.load(broken / "resumed.pt")
    _, whole_log, whole_weights = torch.load(whole / "whole.pt")
    assert made == list(range(5, 13))
    assert log == whole_log
    assert torch.equal(weights, whole_weights)


@torch.no_grad()
def said(model: Any) -> torch.Tensor:
    ids = torch.tensor([[5, 9, 4, 17, 21]])
    return model.eval()(input_ids=ids).logits


def test_the_result_is_an_adapter_that_others_load(tmp_path: Path, model_folder: Path) -> None:
    run = trained(tmp_path, model=str(model_folder), train_dataset=rows(21), **FOLLOWS)
    assert set(run.model.peft_config) == {"default", "reference"}
    run.save_model()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "training_args.bin"),
        *("README.md", "curves.html", "curves.png", "train.yaml"),
    }
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path)
    assert set(loaded.peft_config) == {"default"}
    assert torch.allclose(said(loaded), said(run.model), atol=1e-6)
    with loaded.disable_adapter():
        assert not torch.allclose(said(loaded), said(run.model), atol=1e-2)
    prompt, shorter = (
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for ids in (torch.tensor([[5, 9, 4, 17]]), torch.tensor([[4, 17]]))
    )
    spoken, expected = (
        generate(model.eval(), prompt, CAD(), branch=shorter, max_new_tokens=6, do_sample=False)
        for model in (loaded, run.model)
    )
    assert torch.equal(spoken, expected)


def test_a_card_says_where_its_own_model_lies(tmp_path: Path) -> None:
    trainer(tmp_path / "run").save_model(str(tmp_path / "elsewhere"))
    told = (tmp_path / "elsewhere" / "README.md").read_text()
    assert f'from_pretrained("{tmp_path}/elsewhere")' in told


def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path: Path) -> None:
    data = rows(16)
    # What is learned is wrong on these: they get worse from the first update on.
    swapped = {"chosen": "rejected", "rejected": "chosen"}
    best = trained(
        tmp_path,
        train_dataset=data,
        eval_dataset=data.rename_columns(swapped),
        learning_rate=3e-3,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="rewards/accuracies",
    )
    accuracies = [line["eval_rewards/accuracies"] for line in lines(best) if "eval_loss" in line]
    assert accuracies[0] > accuracies[-1]
    assert best.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert best.state.global_step == 4
    assert best.evaluate()["eval_rewards/accuracies"] == accuracies[0]


def test_samples_are_answered_at_each_evaluation(tmp_path: Path) -> None:
    held_out = rows(7, seed=1)
    options = {"eval_strategy": "steps", "eval_steps": 2, "eval_samples": 3, "max_steps": 4}
    run = trained(tmp_path, eval_dataset=held_out, **options, eval_samples_max_new_tokens=5)
    told = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in told] == [2, 2, 2, 4, 4, 4]
    for row, given in zip(told, [*held_out.select(range(3))] * 2, strict=True):
        assert row["prompt"] == given["prompt"]
        assert row["chosen"] == f"{given['chosen'].strip()} </s>"
    tokenizer = tiny_tokenizer()
    for row in told[3:]:
        ids = tokenizer(row["prompt"], return_tensors="pt").input_ids
        greedy = run.model.eval().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=5,
        )
        assert row["generated"] == tokenizer.decode(greedy[0, ids.shape[1] :])


def test_a_run_tells_of_itself_and_can_be_run_again(tmp_path: Path, model_folder: Path) -> None:
    options = {**EVALUATED, "num_train_epochs": 2, "learning_rate": 3e-3, "beta": 0.3}
    run = trainer(tmp_path, model=str(model_folder), lora=False, **options)
    run.train()
    told = (tmp_path / "README.md").read_text()
    for part in (
        "arxiv.org/abs/2305.18290",
        f"`{model_folder}`",
        "training: 10 pairs",
        "beta: 0.3",
    ):
        assert part in told, part
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "evaluation: rewards/margins" in (tmp_path / "curves.html").read_text()
    settings = yaml.safe_load((tmp_path / "train.yaml").read_text())
    model, _ = settings.pop("model_name_or_path"), settings.pop("dtype")
    data: dict[str, Dataset] = {"train_dataset": rows(10), "eval_dataset": rows(7, seed=1)}
    again = Untold(model, DPOConfig(**{**settings, "disable_tqdm": True}), **data)
    again.train()
    assert lines(again) == lines(run)
    assert logged(run, "loss")[-1] != logged(run, "loss")[0]
