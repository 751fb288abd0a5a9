"""Runs that can't go on say why and what to do; runs that go wrong say so once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from align_policies import moved
from align_runs import PLAIN, Untold, logged, rows, trained, trainer
from datasets import Dataset
from eval_doubles import tiny_llama

from contralign.align.dpo_trainer import DPOTrainer
from contralign.align.stop import TrainingError

SAVED = {"save_strategy": "steps", "save_steps": 1}
# Rejected answers say the chosen ones several times: to push them down pushes both down.
REPEATED = Dataset.from_list(
    [
        {"prompt": prompt, "chosen": " a b", "rejected": " a b a b a b c"}
        for prompt in ("k l m", "n o", "p q r s", "t u", "m k", "v w x", "z", "o l")
    ]
)


def started(folder: Path, **options: Any) -> DPOTrainer:
    return trainer(folder, make=Untold, **options)


def test_a_loss_that_is_not_finite_stops_the_run_and_its_rows_are_kept(tmp_path: Path) -> None:
    data = rows(12)
    absurd = {**PLAIN, **SAVED, "learning_rate": 1e30, "logging_strategy": "no"}
    run = started(tmp_path, lora=False, train_dataset=data, **absurd)
    with pytest.raises(TrainingError, match=r"the loss is no longer finite after 1 updates\. "):
        run.train()
    (file,) = tmp_path.glob("stopped-at-step-*")
    assert file.name == "stopped-at-step-1-process-0.json"
    kept = json.loads(file.read_text())
    assert kept["step"] == 1
    pairs = {
        (row["prompt"], f"{row['chosen'].strip()} </s>", f"{row['rejected'].strip()} </s>")
        for row in data
    }
    found = {(row["prompt"], *(one["text"] for one in row["completions"])) for row in kept["rows"]}
    assert len(found) == 4
    assert found <= pairs
    assert "nan" in {row["loss"] for row in kept["rows"]}
    # The weights after the first update were saved before anybody could know.
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


def test_the_last_update_is_looked_at_too(tmp_path: Path) -> None:
    absurd = {**PLAIN, "learning_rate": 1e30, "max_steps": 2, "logging_strategy": "no"}
    with pytest.raises(TrainingError, match="after 1 updates"):
        trained(tmp_path, lora=False, **absurd)


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    run = started(tmp_path, lora=False, train_dataset=rows(8, weight=1e38))
    with pytest.raises(TrainingError, match="the gradient, though not the loss, is no longer"):
        run.train()
    assert list(tmp_path.glob("stopped-at-step-0-*"))


def failing(run: DPOTrainer, error: Exception) -> DPOTrainer:
    """A trainer whose model fails in the middle of its forward."""

    def fail(*_: Any) -> None:
        raise error

    layer = run.model.get_submodule("model.layers.1")
    layer.register_forward_hook(fail)
    return run


def test_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    data = rows(4)
    longest = max(
        len(f"{row['prompt']} {row['chosen']} {row['rejected']}".split()) + 2 for row in data
    )
    run = failing(
        started(tmp_path, lora=False, train_dataset=data, max_length=30),
        torch.OutOfMemoryError("CUDA out of memory."),
    )
    told = (
        rf"out of memory on a batch of 4 examples, the longest of {longest} tokens\. In this order:"
        r" halve per_device_train_batch_size \(4\) and double gradient_accumulation_steps \(1\).*"
        r"set gradient_checkpointing: true.*lower max_length \(30\)"
    )
    with pytest.raises(torch.OutOfMemoryError, match=told):
        run.train()


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    run = failing(started(tmp_path, lora=False), ValueError("a shape that nobody thought of"))
    with pytest.raises(ValueError, match=r"^a shape that nobody thought of$"):
        run.train()


def dropping() -> Any:
    model = tiny_llama()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


def test_dropout_is_switched_off_or_found(tmp_path: Path) -> None:
    run = trained(tmp_path, lora=False, model=dropping())
    assert logged(run, "rewards/margins")[0] == 0
    on = started(tmp_path, lora=False, model=dropping(), disable_dropout=False)
    with pytest.raises(
        TrainingError,
        match=r"must be the same.*Dropout is on \(model\.layers\.0\.self_attn and 2 in all\): set",
    ):
        on.train()


# What somebody does to a model between making its trainer and training.
CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "an adapter that is loaded": ({}, "The adapter already changes what the model says.*adapter"),
    "weights that are loaded": ({"lora": False}, "random or changes from one forward"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_policy_that_is_not_its_reference_is_found(tmp_path: Path, name: str) -> None:
    options, told = CHANGED[name]
    run = started(tmp_path, **options)
    moved(run.model)
    with pytest.raises(TrainingError, match=f"policy and reference must be the same.*{told}"):
        run.train()
    unchecked = started(tmp_path, **options, self_check=False)
    moved(unchecked.model)
    unchecked.train()
    assert logged(unchecked, "rewards/margins")[0] != 0


def silent(model: Any) -> None:
    """Set both matrices of each adapter to 0."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.zero_()


STILL: dict[str, tuple[dict[str, Any], Callable[[Any], None] | None, str]] = {
    "weights of 0": ({"train_dataset": rows(8, weight=0.0)}, None, "weights that are all 0"),
    "both matrices 0": ({}, silent, "both of its matrices start at 0"),
    "a satisfied hinge": (
        {"loss_type": ["hinge"], "reference": "none", "beta": 1.0, "train_dataset": REPEATED},
        None,
        "a hinge that every pair already satisfies",
    ),
}


@pytest.mark.parametrize("name", STILL)
def test_a_first_gradient_of_0_is_found(tmp_path: Path, name: str) -> None:
    options, change, told = STILL[name]
    run = started(tmp_path, **options)
    if change:
        change(run.model)
    with pytest.raises(TrainingError, match=f"gradient is exactly 0.*{told}"):
        run.train()


def test_a_reference_that_is_the_policy_by_mistake_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tiny_llama()
    moved(other)
    trained(tmp_path, reference=other)
    assert not caplog.records
    trained(tmp_path, reference=tiny_llama())
    (record,) = caplog.records
    assert record.getMessage().startswith("the reference, a model, gives exactly the policy's")


def test_likelihood_displacement_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trainer(tmp_path, lora=False, train_dataset=REPEATED, num_train_epochs=4)
    run.train()
    drifts = logged(run, "logps/chosen_drift")
    assert sum(drift < -1 for drift in drifts) > 3
    told = [record.getMessage() for record in caplog.records]
    (warning,) = [text for text in told if text.startswith("likelihood displacement")]
    assert f"> {warning}" in (tmp_path / "README.md").read_text()
