"""Runs of `contralign train` on a tiny model, started as from a shell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align_runs import rows

from contralign.align.saving import newest
from contralign.cli import main

CONFIGS = Path(__file__).parents[1] / "configs" / "train"
DPO = CONFIGS / "dpo.yaml"
# A short run on a CPU.
SHORT: dict[str, Any] = {
    "config": DPO,
    "max_steps": 2,
    "logging_steps": 1,
    "warmup_steps": 0,
    "learning_rate": 1e-2,
    "eval_strategy": "no",
    "eval_samples": 0,
    "early_stopping_patience": "null",
    "load_best_model_at_end": False,
    "use_cpu": True,
}


def pairs(folder: Path, count: int = 20, **columns: Any) -> Path:
    """A file of pairs."""
    return written(folder / "pairs.jsonl", list(rows(count, **columns)))


def written(file: Path, lines: Sequence[Any]) -> Path:
    """A file of rows."""
    file.write_text("".join(json.dumps(row) + "\n" for row in lines))
    return file


def words(options: dict[str, Any], method: str = "dpo") -> list[str]:
    """Options as they are typed; those that are None aren't."""
    given = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
    return ["train", method, *(word for pair in given for word in pair)]


def train(
    model: Path, data: Path | None, output: Path | None, method: str = "dpo", **options: Any
) -> int:
    """The exit code of a short run."""
    named = {"model_name_or_path": model, "dataset_name": data, "output_dir": output}
    own = {"config": CONFIGS / f"{method}.yaml"}
    return exit_code(words({**SHORT, **own, **named, **options}, method))


def exit_code(typed: Sequence[str]) -> int:
    try:
        return main(typed)
    except SystemExit as stop:
        return int(stop.code or 0)


def history(output: Path, name: str = "loss") -> list[float]:
    """What a run logged at each update, from its last checkpoint."""
    checkpoint = newest(output)
    assert checkpoint is not None
    lines = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [line[name] for line in lines if name in line]


def hollow(model: Path, folder: Path) -> Path:
    """A copy of a model without its weights: whoever loads it fails."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder
