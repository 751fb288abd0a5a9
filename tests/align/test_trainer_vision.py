"""Training on pairs with images, held against TRL's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from align_runs import LORA, config, logged
from align_vlms import picture, tiny_llava, tiny_qwen25vl
from datasets import Dataset
from peft import LoraConfig

from contralign.align.dpo_trainer import DPOTrainer

MODELS = {"llava": tiny_llava, "qwen2.5-vl": tiny_qwen25vl}
# Qwen's tower scales with the picture.
SIZES = ((56, 40), (90, 60), (40, 84))
ADAPTER = {**LORA, "target_modules": r".*language_model.*\.(q_proj|v_proj)"}


def seen(count: int) -> Dataset:
    """Pairs about pictures, no two of one length."""
    questions = ("What is it?", "What do you see here?", "Name it!")
    return Dataset.from_list(
        [
            {
                "images": [picture(i, *SIZES[i % 3])],
                "prompt": [{"role": "user", "content": questions[i % 3]}],
                "chosen": [{"role": "assistant", "content": "noise" + "!" * (i % 4)}],
                "rejected": [{"role": "assistant", "content": "a cat" + "." * (i % 3)}],
            }
            for i in range(count)
        ]
    )


def run(folder: Path, name: str, **options: Any) -> DPOTrainer:
    model, processor = MODELS[name]()
    made = DPOTrainer(
        model,
        config(folder, **{"per_device_train_batch_size": 2, **options}),
        train_dataset=seen(6),
        eval_dataset=seen(3),
        processing_class=processor,
        peft_config=LoraConfig(**ADAPTER),
    )
    made.train()
    return made


def test_losses_are_those_of_trl(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    theirs = trl.DPOTrainer(
        model,
        args=trl.DPOConfig(
            str(tmp_path / "theirs"),
            use_cpu=True,
            per_device_train_batch_size=2,
            num_train_epochs=2,
            learning_rate=1e-2,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            activation_checkpointing=False,
            max_length=None,
            bf16=False,
            dataloader_pin_memory=False,
        ),
        train_dataset=seen(6),
        processing_class=processor,
        peft_config=LoraConfig(**ADAPTER),
    )
    theirs.train()
    ours = run(tmp_path / "ours", "llava", num_train_epochs=2, max_length=None)
    for number in ("loss", "rewards/margins", "rewards/chosen"):
        expected = torch.tensor(logged(theirs, number))
        assert len(expected) == 6
        assert (torch.tensor(logged(ours, number)) - expected).abs().max() < 2e-4


@pytest.mark.parametrize("name", MODELS)
def test_a_cached_reference_is_the_base(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))
    live = run(tmp_path / "live", name)
    cached = run(tmp_path / "cached", name, reference="cached")
    assert logged(live, "loss")[0] == pytest.approx(0.693147, abs=1e-5)
    assert logged(live, "loss")[-1] != logged(live, "loss")[0]
    assert logged(cached, "loss") == pytest.approx(logged(live, "loss"), abs=1e-6)


def test_each_picture_goes_through_the_tower_once_a_pair(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    made = DPOTrainer(
        model,
        config(tmp_path, per_device_train_batch_size=2, reference="none", self_check=False),
        train_dataset=seen(6),
        processing_class=processor,
        peft_config=LoraConfig(**ADAPTER),
    )
    seen_by_tower: list[int] = []
    tower = model.model.vision_tower
    tower.register_forward_hook(lambda _, __, output: seen_by_tower.append(len(output[0])))
    made.train()
    # The first batch is also scored one sequence at a time, and once more in the row.
    assert seen_by_tower == [1, 1, 1, 1, 2, 2, 2, 2]


def test_pictures_are_evaluated_and_answered(tmp_path: Path) -> None:
    made = run(tmp_path, "llava", eval_strategy="epoch", eval_samples=2, max_steps=3)
    assert "eval_rewards/margins" in made.state.log_history[-2]
    lines = (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    assert [sample["chosen"] for sample in samples] == ["noise</s>", "noise!</s>"]
