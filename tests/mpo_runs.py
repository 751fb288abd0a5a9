"""Short runs of MPO on a tiny Llama, which a reward for vowels teaches something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align_runs import LORA, config, rows
from datasets import Dataset
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoraConfig

from contralign.align.mpo import MPOConfig, MPOTrainer

ONLINE: dict[str, Any] = {"num_generations": 4, "max_completion_length": 4}


def vowels(completions: Sequence[str], **columns: Any) -> list[float]:
    """How many words are vowels."""
    return [float(sum(word in "aeiou" for word in said.split())) for said in completions]


def mpo(
    folder: Path,
    *,
    lora: bool = True,
    model: Any = None,
    data: Dataset | None = None,
    callbacks: Any = None,
    reward: Any = vowels,
    stage2: Any = None,
    **options: Any,
) -> MPOTrainer:
    """A run of MPO; keywords of the trainer and of the config."""
    given = {
        "max_length": 64,
        "per_device_train_batch_size": 8,
        "stage2": {**ONLINE, **(stage2 or {})},
        **options,
    }
    return MPOTrainer(
        tiny_llama() if model is None else model,
        config(folder, MPOConfig, **given),
        reward=reward,
        train_dataset=rows(24) if data is None else data,
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(**LORA) if lora else None,
        callbacks=callbacks,
    )
