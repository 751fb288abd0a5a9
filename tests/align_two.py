"""One of several processes that train together: `align_two.py FOLDER RUNS`, the runs in JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from align_runs import COPG, HYPO, PLAIN, Untold, learned, lines, rows, trainer


def vowels(completions: list[str], **_: Any) -> list[float]:
    return [float(sum(word in "aeiou" for word in said.split())) for said in completions]


METHODS: dict[str, dict[str, Any]] = {
    "dpo": {"make": Untold},
    "copg": {**COPG, "online": True, "max_completion_length": 5, "reward": vowels},
    "copg-drawn": {**COPG, "reward": vowels},  # completions that are there already
    "hypo": {**HYPO, "max_completion_length": 5, "lmbda": 0.1},
}


def course(
    folder: Path,
    *,
    streamed: bool = False,
    resumed: bool = False,
    method: str = "dpo",
    **options: Any,
) -> Any:
    """Two epochs over 21 rows, with evaluations of 7 before, between and after.

    Args:
        folder: Of the output.
        streamed: Whether the data comes as a stream.
        resumed: Whether to begin again in the middle of the second epoch, and to return that.
        method: What is trained.
        **options: Of the config and the trainer.
    """

    def made() -> Any:
        data = rows(21)
        return trainer(
            folder,
            train_dataset=data.to_iterable_dataset() if streamed else data,
            eval_dataset=rows(7, seed=1),
            **METHODS[method],
            **{**PLAIN, "num_train_epochs": 2, "eval_strategy": "epoch", **options},
        )

    run = made()
    run.evaluate()
    run.train()
    if resumed:
        run = made()
        run.train(str(folder / "checkpoint-4"))
    return run


def main(folder: str, runs: str) -> None:
    for name, options in json.loads(runs).items():
        run = course(Path(folder, name), **options)
        told = {"lines": lines(run), "weights": learned(run)}
        torch.save(told, Path(folder, f"{name}-{run.args.process_index}.pt"))
        run.accelerator.wait_for_everyone()
    run.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
