"""A loss that isn't finite stops the run, and what it was computed on is kept for inspection."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .batch import Batch

OUT_OF_MEMORY = (" out of memory", "DefaultCPUAllocator: can't allocate memory")


class TrainingError(RuntimeError):
    """A run that can't go on; the message says why and what to do."""


@dataclass(frozen=True)
class Seen:
    """A batch that was trained on.

    Attributes:
        step: Updates before it.
        batch: The examples.
        losses: Of each.
        numbers: Of each completion, by name: log-probs or rewards; None where there are none.
    """

    step: int
    batch: Batch
    losses: Float[Tensor, " prompts"]
    numbers: Mapping[str, Float[Tensor, "prompts k"] | None]


class FiniteGuard:
    """Stops on a loss or gradient that isn't finite.

    Looking at a loss waits for the device, so each is looked at when the next one comes: call
    `check` then, before anything is saved, and at the end.

    Args:
        folder: Where to write what the run stopped on.
        decode: Token ids -> text.
        process: The number of this process.
    """

    def __init__(
        self, folder: Path, decode: Callable[[Sequence[int]], str], process: int = 0
    ) -> None:
        self._folder = folder
        self._decode = decode
        self._process = process
        self._seen: list[Seen] = []
        self._norm: Tensor | None = None

    def watch(self, seen: Seen) -> None:
        """Take note of a batch; those of the update before are forgotten."""
        self._seen = [*(old for old in self._seen if old.step == seen.step), seen]

    def watch_gradient(self, norm: Tensor | float) -> None:
        """Take note of the norm of an update's gradient."""
        self._norm = torch.as_tensor(norm)

    def check(self) -> None:
        """Look at everything noted.

        Raises:
            TrainingError: Something isn't finite. The batch has been written to a file.
        """
        norm, self._norm = self._norm, None
        broken = [seen for seen in self._seen if not bool(seen.losses.isfinite().all())]
        if broken:
            self._stop("the loss", broken)
        if norm is not None and not bool(norm.isfinite()):
            self._stop("the gradient, though not the loss,", self._seen)

    def _stop(self, what: str, seen: list[Seen]) -> None:
        step = seen[0].step
        file = self._folder / f"stopped-at-step-{step}-process-{self._process}.json"
        rows = [row for one in seen for row in _rows(one, self._decode)]
        self._folder.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps({"step": step, "rows": rows}, indent=1, ensure_ascii=False), "utf-8"
        )
        raise TrainingError(
            f"{what} is no longer finite after {step} updates. {file} holds what it was computed "
            "on. Lower learning_rate, set max_grad_norm, replace fp16 by bf16, or look for odd "
            "rows there; then resume from the last checkpoint."
        )


def _rows(seen: Seen, decode: Callable[[Sequence[int]], str]) -> list[dict[str, Any]]:
    rows = []
    for index, prompt in enumerate(seen.batch.prompts):
        rows.append(
            {
                "loss": _json(seen.losses[index]),
                "prompt": decode(prompt),
                "prompt_ids": list(prompt),
                "completions": [
                    {
                        "text": decode(ids),
                        "ids": list(ids),
                        **{
                            name: None if values is None else _json(values[index, place])
                            for name, values in seen.numbers.items()
                        },
                    }
                    for place, ids in enumerate(seen.batch.completions[index])
                ],
            }
        )
    return rows


def _json(value: Tensor) -> float | str:
    """JSON has no word for what isn't finite."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


def memory_advice(batch: Batch, config: Any) -> str:
    """What to lower, given the batch that didn't fit and the settings."""
    pairs = zip(batch.prompts, batch.completions, strict=True)
    longest = max(len(prompt) + sum(map(len, group)) for prompt, group in pairs)
    size = len(batch)
    advice = []
    if size > 1:
        advice.append(
            f"halve per_device_train_batch_size ({config.per_device_train_batch_size}) and double "
            f"gradient_accumulation_steps ({config.gradient_accumulation_steps}): same result"
        )
    if not config.gradient_checkpointing:
        advice.append("set gradient_checkpointing: true: same result")
    advice.append(f"lower max_length ({config.max_length})")
    advice.append("load_in_4bit, use_peft, or a smaller lora_r")
    return (
        f"out of memory on a batch of {size} examples, the longest of {longest} tokens. "
        f"In this order: {'; '.join(advice)}."
    )
