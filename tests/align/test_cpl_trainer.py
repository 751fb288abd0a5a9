"""CPL's trainer: DPO where the paper says so, and a warm-up after which all starts anew."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import CPL, PLAIN, agree, learned, lines, logged, rows, trained, trainer
from datasets import Dataset
from eval_doubles import tiny_llama
from transformers import TrainerCallback

from contralign.align.losses.cpl import cloning

WARM: dict[str, Any] = {
    **CPL,
    "bc_steps": 3,
    "max_steps": 6,
    "lora": False,
    "train_dataset": rows(24),
    "train_sampling_strategy": "sequential",
    "learning_rate": 1e-2,
    "warmup_steps": 2,
}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"kl": True}, {}), ({"kl": True, "alpha": 0.4}, {"beta": 0.4}), ({}, {"reference": "none"})],
)
def test_a_run_is_dpos(tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    data = {"train_dataset": rows(10), "eval_dataset": rows(5, seed=1), "eval_strategy": "epoch"}
    agree(trained(tmp_path, **CPL, **data, **ours), trained(tmp_path, **data, **theirs))


def test_a_reference_may_be_measured_against_without_being_learned_from(tmp_path: Path) -> None:
    run = trained(tmp_path, **CPL, **PLAIN, reference="base")
    free = trained(tmp_path, **CPL, **PLAIN)
    assert torch.equal(learned(run), learned(free))
    assert logged(run, "kl")[-1] > 0 == len(logged(free, "kl"))


def test_rankings_are_trained_on(tmp_path: Path) -> None:
    said = [" a b", " c", " d e"]
    data = Dataset.from_list([{"prompt": row["prompt"], "completions": said} for row in rows(8)])
    run = trained(tmp_path, **CPL, train_dataset=data, num_train_epochs=10, alpha=1.0)
    right = logged(run, "rewards/accuracies")
    assert sum(right[-4:]) / 4 > 0.8 > sum(right[:4]) / 4


def test_a_tie_ends_even(tmp_path: Path) -> None:
    data = rows(4, label=0.5)
    options = {"num_train_epochs": 30, "alpha": 1.0, "learning_rate": 3e-2}
    run = trained(tmp_path, **CPL, train_dataset=data, **options)
    margins = [abs(x) for x in logged(run, "rewards/margins")]
    assert margins[-1] < 0.1 * margins[0]


class Snapshot(TrainerCallback):
    """Copies the model at one update."""

    def __init__(self, step: int) -> None:
        self.step, self.model = step, None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.model = copy.deepcopy(kwargs["model"])


def test_after_the_warm_up_all_is_as_in_a_new_run(tmp_path: Path) -> None:
    snapshot = Snapshot(3)
    run = trained(tmp_path, **WARM, callbacks=[snapshot])
    rest = {
        "bc_steps": 0,
        "max_steps": 3,
        "train_dataset": WARM["train_dataset"].select(range(12, 24)),
    }
    other = trained(tmp_path, **{**WARM, **rest}, model=snapshot.model)
    for name in ("loss", "grad_norm", "learning_rate", "rewards/margins"):
        assert logged(run, name)[3:] == pytest.approx(logged(other, name), rel=1e-6), name
    assert torch.allclose(learned(run), learned(other), atol=1e-7)
    assert logged(run, "learning_rate") == pytest.approx([1e-2] * 3 + [0, 0.5e-2, 1e-2])


def test_the_warm_up_imitates_chosen_answers(tmp_path: Path) -> None:
    run = trainer(tmp_path, **WARM)
    batch = run.data_collator([run.train_dataset[i] for i in range(4)])["batch"]
    with torch.no_grad():
        expected = cloning(run.engine(batch).logps, batch).mean().item()
        evaluated = run.evaluate(rows(4))["eval_loss"]
    run.train()
    assert logged(run, "loss")[0] == pytest.approx(expected)
    assert logged(run, "loss")[2] < logged(run, "loss")[0]
    assert evaluated < expected  # what is evaluated is CPL


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_run_is_resumed_before_at_and_after_the_end_of_the_warm_up(
    tmp_path: Path, step: int
) -> None:
    saved = {**WARM, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}
    unbroken = trained(tmp_path, **saved)
    run = trainer(tmp_path, **saved)
    run.train(str(tmp_path / f"checkpoint-{step}"))
    assert lines(run) == lines(unbroken)
    assert torch.equal(learned(run), learned(unbroken))


def test_saturation_is_told_once_and_in_the_notes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained(tmp_path, **CPL, lmbda=0.5, alpha=0.5)
    assert caplog.text.count("lmbda saturates CPL: in ") == 1
    assert "saturation" in run.journal.watch.told
    even = trained(tmp_path, **CPL, lmbda=0.5, alpha=0.5, average=True)
    assert "saturation" not in even.journal.watch.told


def test_the_warm_up_leaves_updates(tmp_path: Path) -> None:
    run = trainer(tmp_path, **CPL, bc_steps=3)
    with pytest.raises(ValueError, match="leaves updates for it, got 3 of 3"):
        run.train()


def test_a_schedule_of_evaluations_is_not_started_anew(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        **CPL,
        model=tiny_llama(),
        bc_steps=1,
        lr_scheduler_type="reduce_lr_on_plateau",
        eval_dataset=rows(3),
        eval_strategy="epoch",
    )
    with pytest.raises(ValueError, match="isn't possible with lr_scheduler_type reduce_lr_on"):
        run.train()
