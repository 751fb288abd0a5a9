"""Stage 1: DPO on the easy pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..config import DPOConfig
from ..course import course, digest
from ..dpo_trainer import DPOTrainer
from ..record import Record, all_settings
from ..saving import newest
from .files import record_policy, recorded_policy

# Keys of the whole run's data and reward.
OF_THE_RUN = ("dataset", "test_split_size", "streaming", "reward_")


def first_record(record: Record, easy: Path, held_out: bool) -> Record:
    """What stage 1 is remembered by: `contralign train dpo` on the easy pairs."""
    own = {
        name: value for name, value in record.settings.items() if not name.startswith(OF_THE_RUN)
    }
    missing = [name for name in record.missing if name not in ("train_dataset", "reward")]
    missing += ["eval_dataset"] if held_out and "eval_dataset" not in missing else []
    return replace(
        record,
        command=(),
        settings={**own, "dataset_name": str(easy)},
        method="dpo",
        missing=missing,
    )


def run_first(
    model: Any, config: DPOConfig, easy: Dataset, record: Record, resume: bool, **others: Any
) -> tuple[str, Any]:
    """Train stage 1, or go on with it, unless it's finished.

    Args:
        model: Hub id or folder, or a model.
        config: The options of stage 1.
        easy: Its pairs.
        record: What it's remembered by.
        resume: Whether to go on from its newest checkpoint, if there is one.
        **others: Of `DPOTrainer`.

    Returns:
        What names the weights that it ended with, and the policy, None if it was finished.

    Raises:
        ValueError: It was finished with other settings, or its weights aren't those it left.
    """
    folder, decided = Path(config.output_dir), first_course(config, easy, record)
    found = recorded_policy(folder, decided) if resume else None
    if found is not None:
        return found, None
    trainer = DPOTrainer(model, config, train_dataset=easy, record=record, **others)
    trainer.train(True if resume and newest(folder) else None)
    trainer.save_model()
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        record_policy(folder, decided)
    trainer.accelerator.wait_for_everyone()
    weights = json.loads((folder / "policy.json").read_text(encoding="utf-8"))["weights"]
    return str(weights), trainer.model


def first_course(config: DPOConfig, easy: Dataset, record: Record) -> Mapping[str, Any]:
    """What decides the weights that stage 1 ends with."""
    decided = course(all_settings(record, config))
    decided.pop("reference", None)
    return {"settings": {**decided, "asked reference": config.reference}, "easy": digest(easy)}
