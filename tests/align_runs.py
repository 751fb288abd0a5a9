"""Tiny models, made-up pairs and short runs, for tests of the trainer."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoraConfig
from torch import Tensor
from transformers import PrinterCallback

from contralign.align.config import DPOConfig
from contralign.align.copg_config import CoPGConfig
from contralign.align.copg_trainer import CoPGTrainer
from contralign.align.cpl_config import CPLConfig
from contralign.align.cpl_trainer import CPLTrainer
from contralign.align.dpo_trainer import DPOTrainer
from contralign.align.hypo_config import HyPOConfig
from contralign.align.hypo_trainer import HyPOTrainer

disable_progress_bars()
# Each run collects garbage: what the libraries loaded is none, and takes longer than a run.
gc.freeze()

LORA: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj", "up_proj"],
    "task_type": "CAUSAL_LM",
}
# Steps as long as the gradient: Adam and clipping would hide a wrong scale.
PLAIN: dict[str, Any] = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.05}


def rows(count: int, seed: int = 0, **columns: Any) -> Dataset:
    """Pairs of random letters, no two of one length."""
    generator = torch.Generator().manual_seed(seed)

    def said(words: int) -> str:
        letters = torch.randint(26, (words,), generator=generator).tolist()
        return " ".join(chr(97 + letter) for letter in letters)

    pairs = [
        {
            "prompt": said(3 + i % 4),
            "chosen": f" {said(2 + i % 5)}",
            "rejected": f" {said(3 + i % 3)}",
        }
        for i in range(count)
    ]
    return Dataset.from_list([{**pair, **columns} for pair in pairs])


def config(folder: Path | str, kind: Any = DPOConfig, **options: Any) -> Any:
    """Options of a short run on a CPU that logs every update and says nothing."""
    given: dict[str, Any] = {
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        **options,
    }
    return kind(str(folder), **given)


def trainer(
    folder: Path | str,
    *,
    lora: bool = True,
    model: Any = None,
    make: Any = DPOTrainer,
    kind: Any = DPOConfig,
    **others: Any,
) -> Any:
    """A trainer on a tiny Llama; keywords of the config, whose kind it is, and of the trainer."""
    names = (
        "train_dataset",
        "eval_dataset",
        "processing_class",
        "peft_config",
        "callbacks",
        "reference",
        "record",
        "reward",
    )
    # A reference is a model, or an option: its name.
    kept = {
        name: others.pop(name)
        for name in names
        if name in others and not isinstance(others[name], str)
    }
    run = make(
        tiny_llama() if model is None else model,
        config(folder, kind, **others),
        **{
            "train_dataset": rows(10),
            "processing_class": tiny_tokenizer(),
            "peft_config": LoraConfig(**LORA) if lora else None,
            **kept,
        },
    )
    run.remove_callback(PrinterCallback)
    return run


class Silent:
    """Writes no card: its curves take longer than such a run."""

    def create_model_card(self, *_: Any, **__: Any) -> None: ...


class Untold(Silent, DPOTrainer): ...


class UntoldCPL(Silent, CPLTrainer): ...


class UntoldCoPG(Silent, CoPGTrainer): ...


class UntoldHyPO(Silent, HyPOTrainer): ...


CPL: dict[str, Any] = {"make": UntoldCPL, "kind": CPLConfig}
COPG: dict[str, Any] = {"make": UntoldCoPG, "kind": CoPGConfig}
HYPO: dict[str, Any] = {"make": UntoldHyPO, "kind": HyPOConfig}


def trained(folder: Path | str, **others: Any) -> Any:
    """A trainer that has trained."""
    run = trainer(folder, **{"make": Untold, **others})
    run.train()
    return run


def logged(run: Any, name: str) -> list[float]:
    """A number's values in the lines of training."""
    return [line[name] for line in run.state.log_history if name in line and "loss" in line]


def lines(run: Any, after: int = -1) -> list[dict[str, float]]:
    """The log of a run behind an update, without what a clock says and the summary at the end."""
    return [
        {name: value for name, value in line.items() if not _is_time(name)}
        for line in run.state.log_history
        if line["step"] > after and "train_runtime" not in line
    ]


def _is_time(name: str) -> bool:
    return name.endswith(("_second", "_runtime", "_time"))


def learned(run: Any) -> Tensor:
    """All weights that are trained, in a row."""
    weights = [p.detach().flatten() for p in run.model.parameters() if p.requires_grad]
    return torch.cat(weights).clone()


def agree(run: Any, other: Any, tolerance: float = 1e-5) -> None:
    """Assert that two runs logged the same and learned the same."""
    same_lines(lines(run), lines(other), tolerance)
    assert torch.allclose(learned(run), learned(other), atol=tolerance)


def same_lines(
    found: list[dict[str, float]], expected: list[dict[str, float]], tolerance: float = 1e-5
) -> None:
    assert len(found) == len(expected) > 0
    for line, other in zip(found, expected, strict=True):
        assert line == pytest.approx(other, rel=10 * tolerance, abs=tolerance)
