"""MPO interrupted in each stage goes on where it was, and refuses to go on with something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import learned, rows
from mpo_runs import mpo, vowels
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2}


class Stop(TrainerCallback):
    """Interrupts a stage after an update, once its checkpoint is written."""

    def __init__(self, stage: str, update: int) -> None:
        self.stage, self.update = stage, update

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if Path(args.output_dir).name == self.stage and state.global_step == self.update:
            raise KeyboardInterrupt


class Counting:
    """Counts the completions that it judges, and is interrupted at its n-th call."""

    __qualname__ = "counting"

    def __init__(self, last: int = -1) -> None:
        self.calls, self.seen, self.last = 0, 0, last

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt
        self.seen += len(completions)
        return vowels(completions)


@pytest.fixture(scope="module", params=[True, False], ids=["lora", "full"])
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unbroken")
    torch.manual_seed(0)
    run = mpo(folder, lora=request.param, **SAVED)
    run.train()
    run.save_model()
    return request.param, run


def result(folder: Path) -> dict[str, Tensor]:
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("stage", "update"), [("stage1", 1), ("stage2", 2), ("stage2", 6), ("stage2", 8)]
)
def test_a_stage_goes_on_as_if_nothing_had_happened(
    stage: str, update: int, unbroken: Any, tmp_path: Path
) -> None:
    """Stage 2's second epoch, which begins at its update 7, has an order of its own."""
    lora, whole = unbroken
    with pytest.raises(KeyboardInterrupt):
        mpo(tmp_path, lora=lora, **SAVED, callbacks=[Stop(stage, update)]).train()
    run = mpo(tmp_path, lora=lora, **SAVED)
    run.train(True)
    run.save_model()
    assert torch.equal(learned(run.online), learned(whole.online))
    found, expected = result(tmp_path), result(whole.folder)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (tmp_path / "stage1/policy.json").read_text() == (
        (whole.folder / "stage1/policy.json").read_text()
    )


def test_samples_of_several_updates_keep_their_rhythm(tmp_path: Path) -> None:
    """Samples are drawn at updates 1, 3, 5, ...; anew where a pair of updates is interrupted."""
    given = {"save_strategy": "steps", "save_steps": 1, "stage2": {"num_iterations": 2}}
    with pytest.raises(KeyboardInterrupt):
        mpo(tmp_path, **given, callbacks=[Stop("stage2", 3)]).train()
    run = mpo(tmp_path, **given)
    run.train(True)
    assert run.online is not None
    drawn = [line["step"] for line in run.online.state.log_history if "reward" in line]
    assert drawn == [1, 3, 4, 5, 7, 9, 11, 13, 15]


def test_what_is_scored_is_not_scored_again(tmp_path: Path) -> None:
    data = rows(80)
    with pytest.raises(KeyboardInterrupt):
        mpo(tmp_path, data=data, reward=Counting(last=3)).train()
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 64
    judge = Counting()
    run = mpo(tmp_path, data=data, reward=judge)
    made = run._split()
    assert judge.seen == 2 * 16
    assert made.gaps == [a - b for a, b in zip(*map(vowels, sides(data)), strict=True)]


def sides(data: Any) -> tuple[list[str], list[str]]:
    return list(data["chosen"]), list(data["rejected"])


def copied(unbroken: Any, folder: Path) -> bool:
    lora, whole = unbroken
    shutil.copytree(whole.folder, folder, dirs_exist_ok=True)
    return bool(lora)


def test_a_finished_stage_1_is_used_by_another_stage_2(unbroken: Any, tmp_path: Path) -> None:
    lora = copied(unbroken, tmp_path)
    shutil.rmtree(tmp_path / "stage2")
    before = result(tmp_path / "stage1")
    run = mpo(tmp_path, lora=lora, **SAVED, stage2={"beta": 0.5})
    run.train(True)
    after = result(tmp_path / "stage1")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run.online is not None
    assert run.online.beta == 0.5
    first = next(line for line in run.online.state.log_history if "kl" in line)
    assert first["kl"] == 0


CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"gamma": 1.0}, "stage1 is of another split: .*gamma was"),
    ({"stage1": {"beta": 0.7}}, "stage1 was trained with other settings: .*beta was 0.1, is 0.7"),
    (
        {"stage2": {"beta": 0.5}},
        "is of a run with other settings: .*beta was 0.05, is 0.5.* delete stage2 to train it anew",
    ),
    ({"data": rows(24, seed=1)}, "holds a run with other settings: data was"),
]


@pytest.mark.parametrize(("given", "told"), CHANGED)
def test_another_run_is_refused(
    given: dict[str, Any], told: str, unbroken: Any, tmp_path: Path
) -> None:
    lora = copied(unbroken, tmp_path)
    with pytest.raises(ValueError, match=told):
        mpo(tmp_path, lora=lora, **{**SAVED, **given}).train(True)


def test_other_scores_of_the_same_sizes_are_refused(unbroken: Any, tmp_path: Path) -> None:
    lora = copied(unbroken, tmp_path)
    file = tmp_path / "scores.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["scores"] = [score + 1 for score in lines[0]["scores"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="stage1 is of another split: digest was"):
        mpo(tmp_path, lora=lora, **SAVED).train(True)


def test_a_lost_side_is_written_again(unbroken: Any, tmp_path: Path) -> None:
    lora = copied(unbroken, tmp_path)
    before = (tmp_path / "difficult.jsonl").read_text()
    (tmp_path / "difficult.jsonl").unlink()
    mpo(tmp_path, lora=lora, **SAVED).train(True)
    assert (tmp_path / "difficult.jsonl").read_text() == before


def test_other_weights_than_those_of_stage_1_are_refused(unbroken: Any, tmp_path: Path) -> None:
    lora = copied(unbroken, tmp_path)
    (file,) = (tmp_path / "stage1").glob("*model.safetensors")
    shutil.copy(tmp_path / "stage1" / "checkpoint-1" / file.name, file)
    with pytest.raises(ValueError, match="isn't the stage-1 policy that was recorded there"):
        mpo(tmp_path, lora=lora, **SAVED).train(True)
    (tmp_path / "stage1" / "policy.json").unlink()
    for folder in (tmp_path / "stage1").glob("checkpoint-*"):
        shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"weights .* that no finished stage 1 has left"):
        mpo(tmp_path, lora=lora, **SAVED).train(True)


def test_a_used_or_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no run of MPO to resume"):
        mpo(tmp_path).train(True)
    (tmp_path / "split.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"holds a run already \(split.json"):
        mpo(tmp_path).train()
    with pytest.raises(ValueError, match="by itself, got resume_from_check"):
        mpo(tmp_path).train("out/checkpoint-3")
