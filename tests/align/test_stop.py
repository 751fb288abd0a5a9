"""A run stops on what isn't finite and keeps its batch; out of memory, it says what to lower."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import config
from pair_batches import pairs

from contralign.align.batch import Batch
from contralign.align.stop import (
    FiniteGuard,
    Seen,
    TrainingError,
    is_out_of_memory,
    memory_advice,
)

BATCH = Batch([[7, 8], [9]], [[[1], [2, 3]], [[4], [5]]])


def decode(ids: Sequence[int]) -> str:
    return "é".join(map(str, ids))


def seen(step: int = 3, losses: Sequence[float] = (0.5, 0.7), reference: bool = True) -> Seen:
    policy = torch.tensor([[-1.0, -math.inf], [-3.0, -4.0]])
    logps = {"policy_logp": policy, "reference_logp": policy.double() - 1 if reference else None}
    return Seen(step, BATCH, torch.tensor(losses), logps)


@pytest.fixture
def guard(tmp_path: Path) -> FiniteGuard:
    return FiniteGuard(tmp_path / "run", decode, process=2)


def stopped(guard: FiniteGuard, folder: Path, step: int = 3) -> tuple[str, Any]:
    """What the guard says, and what it wrote."""
    with pytest.raises(TrainingError) as stop:
        guard.check()
    (file,) = (folder / "run").iterdir()
    assert file.name == f"stopped-at-step-{step}-process-2.json"
    assert f"after {step} updates. {file} holds what it was computed on." in str(stop.value)
    text = file.read_text("utf-8")
    return str(stop.value), json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize(("loss", "word"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_is_kept(
    guard: FiniteGuard, tmp_path: Path, loss: float, word: str
) -> None:
    guard.watch(seen(losses=(0.5, loss)))
    said, kept = stopped(guard, tmp_path)
    assert said.startswith("the loss is no longer finite")
    assert "learning_rate" in said
    assert kept["step"] == 3
    assert [row["loss"] for row in kept["rows"]] == [0.5, word]
    assert kept["rows"][0]["prompt"] == "7é8"
    assert kept["rows"][0]["prompt_ids"] == [7, 8]
    assert kept["rows"][0]["completions"] == [
        {"text": "1", "ids": [1], "policy_logp": -1.0, "reference_logp": -2.0},
        {"text": "2é3", "ids": [2, 3], "policy_logp": "-inf", "reference_logp": "-inf"},
    ]


def test_without_a_reference_there_is_none_in_the_file(guard: FiniteGuard, tmp_path: Path) -> None:
    guard.watch(seen(losses=(math.nan, 0.5), reference=False))
    _, kept = stopped(guard, tmp_path)
    logps = [answer["reference_logp"] for row in kept["rows"] for answer in row["completions"]]
    assert logps == [None] * 4


@pytest.mark.parametrize("norm", [torch.tensor(math.inf), math.nan])
def test_a_gradient_that_is_not_finite_keeps_all_batches_of_its_update(
    guard: FiniteGuard, tmp_path: Path, norm: Any
) -> None:
    for step in (2, 3, 3):
        guard.watch(seen(step))
    guard.watch_gradient(norm)
    said, kept = stopped(guard, tmp_path)
    assert said.startswith("the gradient, though not the loss, is no longer finite")
    assert len(kept["rows"]) == 4


def test_only_the_batches_that_broke_are_kept(guard: FiniteGuard, tmp_path: Path) -> None:
    guard.watch(seen())
    guard.watch(seen(losses=(math.nan, math.nan)))
    guard.watch_gradient(math.nan)
    said, kept = stopped(guard, tmp_path)
    assert said.startswith("the loss is no longer finite")
    assert [row["loss"] for row in kept["rows"]] == ["nan", "nan"]


def test_finite_losses_and_gradients_go_on(guard: FiniteGuard, tmp_path: Path) -> None:
    guard.check()
    guard.watch(seen())
    guard.watch_gradient(0.0)
    guard.check()
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_is_looked_at_once(guard: FiniteGuard) -> None:
    guard.watch(seen())
    guard.watch_gradient(math.inf)
    with pytest.raises(TrainingError):
        guard.check()
    guard.check()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("the word ' out of memory' is in the data"), False),
    ],
)
def test_knows_what_it_is_to_be_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_knows_the_error_of_a_cpu() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize(
    ("lengths", "options", "order"),
    [
        (
            [(3, 4), (9, 8)],
            {"gradient_accumulation_steps": 5, "max_length": 600},
            [
                "2 examples, the longest of 19 tokens",
                "halve per_device_train_batch_size (4) and double gradient_accumulation_steps (5)",
                "gradient_checkpointing: true: same result",
                "lower max_length (600)",
                "load_in_4bit, use_peft, or a smaller lora_r",
            ],
        ),
        (
            [(3, 4)],
            {"gradient_checkpointing": True, "per_device_train_batch_size": 1},
            ["1 examples, the longest of 9 tokens", "lower max_length (1024)", "load_in_4bit"],
        ),
    ],
)
def test_advises_what_can_be_lowered_what_changes_no_result_first(
    tmp_path: Path, lengths: list[tuple[int, int]], options: dict[str, Any], order: list[str]
) -> None:
    advice = memory_advice(pairs(lengths), config(tmp_path, **options))
    places = [advice.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)
    assert advice.count(";") == len(order) - 2
