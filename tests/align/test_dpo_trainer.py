"""DPO held against TRL's trainer: the same losses, gradients and rewards, update by update."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import trl
from align_policies import moved
from align_runs import LORA, Untold, learned, logged, rows, trainer
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)

from contralign.align.dpo_trainer import DPOTrainer

DATA = rows(30)  # eight updates, the last one of two pairs
REWARDS = [f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")]
BATCH = {"per_device_train_batch_size": 4}
ONE_BY_ONE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
# Ours and theirs. TRL's sigmoid has no smoothing, but its aot is cDPO on a batch of one pair.
LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid": ({}, BATCH),
    "sharp": ({"beta": 0.5}, {"beta": 0.5, **BATCH}),
    "smoothed": (
        {"label_smoothing": 0.2},
        {"loss_type": ["aot"], "label_smoothing": 0.2, **ONE_BY_ONE},
    ),
    "ipo": ({"loss_type": ["ipo"]}, {"loss_type": ["ipo"], **BATCH}),
    "hinge": ({"loss_type": ["hinge"]}, {"loss_type": ["hinge"], **BATCH}),
}
CASES = [*((name, True) for name in LOSSES), ("sigmoid", False), ("ipo", False)]
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")


def theirs(folder: Path, model: Any, options: dict[str, Any], **others: Any) -> Any:
    """TRL's trainer with its own settings where a short run on a CPU asks for no others."""
    args = trl.DPOConfig(
        str(folder),
        use_cpu=True,
        bf16=False,
        num_train_epochs=1,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        **options,
    )
    return trl.DPOTrainer(
        model, args=args, train_dataset=DATA, processing_class=tiny_tokenizer(), **others
    )


def follows(ours: DPOTrainer, other: Any) -> None:
    """Assert that two trainers go the same way."""
    before = learned(ours)
    ours.train()
    other.train()
    assert len(logged(ours, "loss")) == 8
    for name in ("loss", *REWARDS, "logps/chosen", "logps/rejected"):
        expected = pytest.approx(logged(other, name), abs=2e-4, rel=1e-5)
        assert logged(ours, name) == expected, name
    assert logged(ours, "grad_norm") == pytest.approx(logged(other, "grad_norm"), rel=1e-3)
    assert len(set(logged(other, "rewards/margins"))) == 8
    assert (learned(ours) - before).abs().max() > 1e-2


@pytest.mark.parametrize(("name", "lora"), CASES)
def test_a_run_is_trls(tmp_path: Path, name: str, lora: bool) -> None:
    mine, given = LOSSES[name]
    run = trainer(tmp_path, lora=lora, make=Untold, train_dataset=DATA, **mine)
    if lora:
        other = theirs(tmp_path, tiny_llama(), given, peft_config=LoraConfig(**LORA))
        set_peft_model_state_dict(other.model, get_peft_model_state_dict(run.model))
    else:
        other = theirs(tmp_path, tiny_llama(), given, ref_model=tiny_llama())
    follows(run, other)


def test_going_on_from_an_adapter_is_trls(tmp_path: Path) -> None:
    model = get_peft_model(tiny_llama(), LoraConfig(**LORA))
    moved(model)
    other = theirs(tmp_path, copy.deepcopy(model), BATCH)
    options: dict[str, Any] = {"train_dataset": DATA, "peft_config": None}
    run = trainer(tmp_path, model=model, reference="adapter", make=Untold, **options)
    follows(run, other)
