"""Two processes train as one: the same losses, evaluations and weights."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import learned, lines, same_lines
from align_two import course
from processes import TESTS, environment, free_port

SCRIPT = TESTS / "align_two.py"
EIGHT = {"per_device_train_batch_size": 8}
FOUR = {"per_device_train_batch_size": 4}
TWICE_TWO = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
FULL = {"lora": False}
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
ONLINE = {"method": "copg", "learning_rate": 1e-3}
DRAWN = {**ONLINE, "method": "copg-drawn"}
HYPO = {**ONLINE, "method": "hypo"}
PAGED = {**HYPO, "use_transformers_continuous_batching": True}
STREAM = {"streamed": True, "max_steps": 2}
# For one process and for two, which make the same batches of eight pairs; the epoch's last of five.
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": ({**FULL, **EIGHT}, {**FULL, **FOUR}),
    "accumulated": ({**FULL, **EIGHT}, {**FULL, **TWICE_TWO}),
    "adapter": (EIGHT, {**FOUR, "gradient_checkpointing": True}),
    "cached": ({**FULL, **EIGHT}, {**FULL, **FOUR, "reference": "cached"}),
    "split": ({**FULL, **EIGHT}, {**FULL, **EIGHT, "accelerator_config": {"split_batches": True}}),
    "streamed": ({**STREAM, **EIGHT}, {**STREAM, **FOUR}),
    "drawn": ({**DRAWN, **EIGHT}, {**DRAWN, **TWICE_TWO}),
    "online": ({**ONLINE, **EIGHT}, {**ONLINE, **TWICE_TWO}),
    "lagging": (
        {**ONLINE, "refresh_every": 3, **EIGHT},
        {**ONLINE, "refresh_every": 3, **SAVED, **FOUR, "resumed": True},
    ),
    "hypo": ({**HYPO, **EIGHT}, {**HYPO, **FOUR}),
    "paged": ({**HYPO, **EIGHT}, {**PAGED, **TWICE_TWO}),
    "resumed": (EIGHT, {**FOUR, **SAVED, "resumed": True}),
}

# A correlation of rewards that are nearly 0 shows their rounding.
TOLERANCE = {"lagging": {"tolerance": 3e-5}}


def ended(processes: list[subprocess.Popen[bytes]], seconds: float = 600) -> list[int | None]:
    """Wait for all to end; when one fails, the others would wait for it."""
    late = time.monotonic() + seconds
    codes: list[int | None] = [None]
    while None in codes and not any(codes) and time.monotonic() < late:
        time.sleep(0.1)
        codes = [process.poll() for process in processes]
    for process in processes:
        process.kill()
        process.wait()
    return codes


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes, started as torchrun does it, wrote of all runs."""
    folder = tmp_path_factory.mktemp("together")
    runs = json.dumps({name: options for name, (_, options) in RUNS.items()})
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    with (folder / "said.txt").open("w") as said:
        processes = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(folder), runs],
                env=environment(folder, **meeting, RANK=rank, LOCAL_RANK=rank),
                stdout=said,
                stderr=said,
            )
            for rank in "01"
        ]
        codes = ended(processes)
    assert codes == [0, 0], (folder / "said.txt").read_text()
    return folder


def are_one(together: Path, alone: Path, name: str) -> None:
    """Assert that both processes have what one has."""
    expected = course(alone, **RUNS[name][0])
    found = [torch.load(together / f"{name}-{rank}.pt") for rank in (0, 1)]
    assert torch.equal(found[0]["weights"], found[1]["weights"])
    assert torch.allclose(found[0]["weights"], learned(expected), atol=1e-5)
    for one in found:
        same_lines(one["lines"], lines(expected), **TOLERANCE.get(name, {}))


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(tmp_path: Path, together: Path, name: str) -> None:
    are_one(together, tmp_path, name)


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path: Path) -> None:
    runs = json.dumps({"full": RUNS["full"][1]})
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *start, str(SCRIPT), str(tmp_path), runs],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    are_one(tmp_path, tmp_path / "alone", "full")
