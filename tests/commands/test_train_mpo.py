"""`contralign train mpo`: one command, killed in any stage and resumed; and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from train_runs import exit_code, hollow, pairs, train, words, written

from contralign.eval.scenes import Optics, World
from contralign.eval.scenes import pairs as faithful_and_not

MODULE = """
import os
from pathlib import Path

def vowels(completions, **columns):
    return [float(sum(word in "aeiou" for word in said.split())) for said in completions]

def killed(completions, **columns):
    calls = Path(__file__).with_name("calls")
    with calls.open("a") as file:
        file.write("x")
    at = Path(__file__).with_name("kill-at")
    if at.exists() and len(calls.read_text()) == int(at.read_text()):
        os.kill(os.getpid(), 9)
    return vowels(completions)

if Path(__file__).with_name("kill-in-stage-1").exists():
    from contralign.align import DPOTrainer

    step = DPOTrainer.training_step

    def last(trainer, *given):
        if trainer.state.global_step == 1:
            os.kill(os.getpid(), 9)
        return step(trainer, *given)

    DPOTrainer.training_step = last
"""
STAGE2 = json.dumps({"num_generations": 4, "max_completion_length": 4})
SHORT: dict[str, Any] = {
    "stage2": STAGE2,
    "gamma_quantile": 0.5,
    "max_length": 64,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "lora_r": 4,
}
CONFIG = Path(__file__).parents[2] / "configs" / "train" / "mpo.yaml"


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of rewards in the working directory."""
    name = f"judges_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The repository's settings, without its reward."""
    settings = yaml.safe_load(CONFIG.read_text())
    del settings["reward_model_name_or_path"]
    (tmp_path / "mpo.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "mpo.yaml"


def test_one_command_runs_all_stages_and_its_settings_repeat_it(
    judges: str,
    config: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, again = tmp_path / "out", tmp_path / "again"
    given = {**SHORT, "config": config, "reward_funcs": f"{judges}.vowels"}
    assert train(model_folder, pairs(tmp_path), output, "mpo", **given) == 0
    assert capsys.readouterr().out.endswith(f"{output} (after update 2 of 2 of stage 2)\n")
    settings = yaml.safe_load((output / "train.yaml").read_text())
    assert settings["reward_funcs"] == [f"{judges}.vowels"]
    assert settings["stage2"] == json.loads(STAGE2)
    first = (output / "train.yaml").read_text().partition("\n")[0]
    assert first == f"# contralign train mpo --config {output}/train.yaml"
    given = ["--config", f"{output}/train.yaml", "--output_dir", str(again)]
    assert exit_code(["train", "mpo", *given]) == 0
    for name in ("scores.jsonl", "split.json", "adapter_model.safetensors"):
        assert (again / name).read_bytes() == (output / name).read_bytes()


def test_stage_1_is_repeated_by_its_own_settings(
    judges: str, config: Path, model_folder: Path, tmp_path: Path
) -> None:
    output, again = tmp_path / "out", tmp_path / "again"
    given = {**SHORT, "config": config, "reward_funcs": f"{judges}.vowels"}
    assert train(model_folder, pairs(tmp_path), output, "mpo", **given) == 0
    file = f"{output}/stage1/train.yaml"
    assert exit_code(["train", "dpo", "--config", file, "--output_dir", str(again)]) == 0
    name = "adapter_model.safetensors"
    assert (again / name).read_bytes() == (output / "stage1" / name).read_bytes()


@pytest.mark.slow
def test_killed_in_each_stage_it_goes_on(
    judges: str, config: Path, model_folder: Path, tmp_path: Path
) -> None:
    """20 pairs are one call of the reward; then comes one for each update of stage 2.

    The unbroken run has a process of its own too: in this one sums differ in their last bit.
    """
    output, whole = tmp_path / "out", tmp_path / "whole"
    given = {
        **SHORT,
        "config": config,
        "reward_funcs": f"{judges}.killed",
        "save_strategy": "steps",
        "save_steps": 1,
        "model_name_or_path": model_folder,
        "dataset_name": pairs(tmp_path),
        "max_steps": 2,
        "logging_steps": 1,
        "warmup_steps": 0,
        "learning_rate": 1e-2,
        "eval_strategy": "no",
        "use_cpu": True,
    }
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)]),
        "OMP_NUM_THREADS": "1",
    }

    def start(folder: Path, *more: str) -> int:
        typed = words({**given, "output_dir": folder}, "mpo")
        command = [sys.executable, "-m", "contralign", *typed, *more]
        return subprocess.run(command, env=environment, check=False).returncode

    assert start(whole) == 0
    (tmp_path / "calls").unlink()
    resume = ("--resume_from_checkpoint", "true")
    (tmp_path / "kill-at").write_text("1")
    assert start(output) == -9
    assert not (output / "stage1").exists()
    (tmp_path / "kill-at").unlink()
    (tmp_path / "kill-in-stage-1").touch()
    assert start(output, *resume) == -9
    assert [at.name for at in (output / "stage1").glob("checkpoint-*")] == ["checkpoint-1"]
    (tmp_path / "kill-in-stage-1").unlink()
    (tmp_path / "kill-at").write_text("4")
    assert start(output, *resume) == -9
    assert [at.name for at in (output / "stage2").glob("checkpoint-*")] == ["checkpoint-1"]
    (tmp_path / "kill-at").unlink()
    assert start(output, *resume) == 0
    weights = "adapter_model.safetensors"
    for name in ("scores.jsonl", "split.json", f"stage1/{weights}", weights):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [True, False])
def test_pictures_in_both_stages(lora: bool, config: Path, tmp_path: Path) -> None:
    world, optics = World(), Optics()
    scenes = world.scenes("train", 16)
    for scene in scenes:
        optics.picture(scene).save(tmp_path / f"{scene.id}.png")
    rows = [{**row, "images": [f"{row['id']}.png"]} for row in faithful_and_not(scenes, world)]
    data, output = written(tmp_path / "scenes.jsonl", rows), tmp_path / "out"
    judge = {"reward_funcs": "contralign.eval.scenes.recall_reward"}
    stage2 = json.dumps({"num_generations": 4, "max_completion_length": 24})
    given = {**SHORT, **judge, "config": config, "stage2": stage2, "dtype": "float32"}
    if not lora:
        del given["lora_r"]
        settings = yaml.safe_load(config.read_text())
        left = {k: v for k, v in settings.items() if not k.startswith(("lora_", "use_peft"))}
        config.write_text(yaml.safe_dump(left))
    assert train(Path("scenes"), data, output, "mpo", **given) == 0
    told = json.loads((output / "split.json").read_text())
    assert told["easy"] + told["difficult"] == 16
    assert (output / ("adapter_model" if lora else "model")).with_suffix(".safetensors").exists()
    row = json.loads((output / "difficult.jsonl").read_text().splitlines()[0])
    assert Path(row["images"][0]).is_file()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"reward_funcs": None}, "MPO splits pairs by a reward"),
    ({"reward_funcs": None, "reward_column": "score"}, "not the samples of stage 2"),
    ({"gamma_quantile": 1.5}, "gamma_quantile must lie in (0, 1), got 1.5."),
    ({"gamma": 1}, "gamma is a value or a quantile, got gamma 1.0 and gamma_quantile 0.5."),
    (
        {"gamma_quantile": "null", "gamma": 9},
        "got 0 easy and 20 difficult (0 dropped) of 20 at gamma 9",
    ),
    ({"negative_gaps": "keep"}, "negative_gaps"),
    ({"stage2": {"num_generations": 1}}, "stage2: num_generations must be"),
    ({"stage2": {"num_generations": 3}}, "must be divisible by num_generations (3)"),
    ({"stage2": {"beta": 0}}, "stage2: beta must be above 0, got 0."),
    ({"stage2": {"temperature": 0}}, "stage2: temperature must be above 0, got 0."),
    ({"stage2": {"top_p": 5}}, "stage2: top_p must lie in (0, 1], got 5."),
    ({"stage2": {"reward_weights": [1, 2]}}, "stage2: reward_weights is of several rewards, got"),
    ({"stage2": {"learning_rate": "fast"}}, "stage2: learning_rate is a number, got 'fast'."),
    ({"stage2": {"num_generation": 4}}, "stage2: there is no key 'num_generation'. Did you mean"),
    ({"stage2": {"use_vllm": True}}, "stage2: use_vllm needs vllm, which isn't installed"),
    ({"stage2": {"sync_ref_model": True}}, "stage2: sync_ref_model isn't supported, got True"),
    ({"stage2": {"output_dir": "x"}}, "stage2: output_dir isn't of one stage, got 'x'."),
    ({"stage1": {"beta": -1}}, "stage1: beta must be above 0, got -1."),
    ({"stage1": {"bet": 1}}, "stage1: there is no key 'bet'. Did you mean 'beta'?"),
    ({"report_to": "nothing"}, "report_to is none, all, or some of"),
    ({"eval_strategy": "epoch"}, "dataset_test_split: there is no split 'test'"),
    ({"push_to_hub": True}, "push_to_hub isn't supported by MPO"),
    ({"resume_from_checkpoint": True}, "has no run of MPO to resume"),
    ({"gama": 0.1}, "there is no key 'gama'. Did you mean 'gamma'?"),
]


@pytest.fixture(scope="module")
def empty(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without weights: only what is refused before it's loaded says something else."""
    return hollow(model_folder, tmp_path_factory.mktemp("models") / "hollow")


@pytest.mark.parametrize(("given", "told"), REFUSED)
def test_before_the_model_is_loaded(
    given: dict[str, Any],
    told: str,
    judges: str,
    config: Path,
    empty: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {**SHORT, "config": config, "reward_funcs": f"{judges}.vowels", **given}
    options = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in options.items()}
    assert train(empty, pairs(tmp_path), tmp_path / "out", "mpo", **options) == 2
    err = capsys.readouterr().err
    assert told in err
    assert not (tmp_path / "out" / "stage1").exists()
