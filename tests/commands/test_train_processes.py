"""`contralign train` in processes of its own: alone, and several under `accelerate launch`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from train_runs import SHORT, history, pairs, words

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
LAUNCH = ["accelerate.commands.launch", "--config_file", str(CONFIGS / "ddp.yaml")]
KINDS = {
    "one_gpu": "NO",
    "ddp": "MULTI_GPU",
    "fsdp2": "FSDP",
    "zero2": "DEEPSPEED",
    "zero3": "DEEPSPEED",
}
TWO = [*LAUNCH, "--num_processes", "2", "--main_process_port", "0", "-m"]


def executed(*launcher: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `contralign train dpo` with short options; launcher is what starts it, if any."""
    typed = words({**SHORT, **options})
    return subprocess.run(
        [sys.executable, "-m", *launcher, "contralign", *typed],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def typed(model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"model_name_or_path": model_folder, "dataset_name": pairs(tmp_path, count=21)}


@pytest.mark.slow
def test_a_run_says_nothing_but_its_log(typed: dict[str, Any], tmp_path: Path) -> None:
    done = executed(**typed, output_dir=tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    *log, last = done.stdout.splitlines()
    assert all(line.startswith("{") for line in log)
    assert last == f"Model, card and curves: {tmp_path / 'out'} (after update 2 of 2)"


@pytest.mark.slow
def test_two_processes_train_as_one(typed: dict[str, Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # 21 rows: the last update of an epoch has 5.
    short = {**typed, "bf16": False, "max_steps": 4, "save_strategy": "steps"}
    alone = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    assert executed(**short, **alone, output_dir=one).returncode == 0
    apart = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    done = executed(*TWO, **short, **apart, output_dir=two)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Model, card and curves: {two} (after update 4 of 4)"
    assert done.stdout.count("Model, card and curves") == 1
    for name in ("loss", "grad_norm", "rewards/margins", "num_tokens"):
        assert history(two, name) == pytest.approx(history(one, name), abs=2e-4)


@pytest.mark.slow
def test_what_the_launcher_says_of_precision_holds(typed: dict[str, Any], tmp_path: Path) -> None:
    alone = [*LAUNCH, "--num_processes", "1", "-m"]
    for number, (given, told) in enumerate([({}, "bf16: true"), ({"bf16": False}, "bf16: false")]):
        output = tmp_path / f"out{number}"
        assert executed(*alone, **typed, **given, output_dir=output).returncode == 0
        assert told in (output / "train.yaml").read_text().splitlines()


@pytest.mark.slow
def test_a_refusal_is_one_line(typed: dict[str, Any], tmp_path: Path) -> None:
    done = executed(**typed, output_dir=tmp_path, beta=-1)
    said = "contralign: error: beta must be above 0, got -1.0. Pass a positive number.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_configs(name: str) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type.value == KINDS[name]
    assert config.num_processes == (1 if name == "one_gpu" else 4)
    assert config.mixed_precision == "bf16"


def test_every_accelerate_config_is_tested() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", ["fsdp2", "zero2", "zero3"])
def test_the_launcher_knows_every_key(name: str) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    asked = {*config.fsdp_config, *config.deepspeed_config}
    assert len(asked) >= 5
    assert asked <= set(vars(launch_command_parser().parse_args(["script.py"])))
