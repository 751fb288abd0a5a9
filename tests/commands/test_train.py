"""`contralign train dpo`, from the words to the model and what is done with it."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from train_runs import DPO, exit_code, history, pairs, train, words
from transformers import AutoModelForCausalLM, AutoTokenizer

from contralign import cli
from contralign.commands import train as command

LIKE_THE_CONFIG: dict[str, Any] = {
    "config": DPO,
    "test_split_size": 4,
    "max_steps": 4,
    "logging_steps": 1,
    "eval_steps": 2,
    "save_steps": 2,
    "learning_rate": 1e-2,
    "gradient_accumulation_steps": 2,
    "use_cpu": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def typed(model_folder: Path, data: Path) -> dict[str, Any]:
    return {**LIKE_THE_CONFIG, "model_name_or_path": model_folder, "dataset_name": data}


@pytest.fixture(scope="module")
def run(typed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run as configs/train/dpo.yaml has it."""
    output = tmp_path_factory.mktemp("runs") / "dpo"
    assert exit_code(words({**typed, "output_dir": output})) == 0
    return output


@pytest.mark.filterwarnings("error")
def test_a_run_ends_with_adapter_card_curves_and_settings(
    typed: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    given = words({**typed, "output_dir": output, "max_steps": 1, "warmup_steps": 0})
    assert cli.main(given) == 0
    out, err = capfd.readouterr()
    whose = "after update 1 of 1, the best evaluated by rewards/accuracies"
    assert out.splitlines()[-1] == f"Model, card and curves: {output} ({whose})"
    assert err == ""
    kept = {path.name for path in output.iterdir()}
    assert kept >= {"adapter_config.json", "adapter_model.safetensors", "curves.html", "curves.png"}
    assert kept >= {"README.md", "samples.jsonl", "tokenizer.json", "train.yaml", "checkpoint-1"}
    card = (output / "README.md").read_text()
    assert f"A PEFT adapter for `{typed['model_name_or_path']}`, trained with DPO" in card
    assert "training: 16 pairs" in card
    assert "evaluation: 4 pairs" in card
    assert " ".join(["contralign", *given]) in card


def test_the_settings_of_a_run_repeat_it(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    settings = {"config": run / "train.yaml", "output_dir": again}
    assert exit_code(words(settings)) == 0
    losses = history(run)
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert history(again) == losses
    assert history(again, "eval_loss") == history(run, "eval_loss")
    ours, theirs = (yaml.safe_load((out / "train.yaml").read_text()) for out in (run, again))
    assert ours == {**theirs, "output_dir": str(run)}
    assert ours.items() >= {"lora_r": 16, "lora_alpha": 32, "dtype": "float32"}.items()


def test_a_run_is_resumed(run: Path, typed: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "checkpoint-4")
    options = {**typed, "output_dir": broken, "resume_from_checkpoint": "true"}
    assert exit_code(words(options)) == 0
    assert history(broken) == history(run)


def test_a_run_is_not_written_over(
    run: Path, typed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(words({**typed, "output_dir": run})) == 2
    assert "holds a run already (checkpoint-4). Go on with it: resume" in capsys.readouterr().err
    result = tmp_path / "result"
    shutil.copytree(run, result, ignore=shutil.ignore_patterns("checkpoint-*"))
    assert exit_code(words({**typed, "output_dir": result})) == 2
    assert "holds a model already (adapter_model.safetensors)" in capsys.readouterr().err


def test_the_adapter_answers_and_can_be_merged(
    run: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = ["--question", "a b c", "--max-new-tokens", "6"]

    def answer(*model: str) -> str:
        assert cli.main(["generate", *model, *question]) == 0
        return capsys.readouterr().out

    trained = answer("--model", str(model_folder), "--adapter", str(run))
    assert trained != answer("--model", str(model_folder))
    merged = str(tmp_path / "merged")
    assert cli.main(["merge", "--adapter", str(run), "--output", merged]) == 0
    capsys.readouterr()
    assert answer("--model", merged) == trained


def test_dora(model_folder: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert train(model_folder, data, output, use_dora=True, max_steps=3) == 0
    weights = load_file(output / "adapter_model.safetensors")
    assert any("magnitude" in name for name in weights)
    losses = history(output)
    assert losses[-1] < losses[0]


def test_all_weights(model_folder: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "full.yaml"
    file.write_text(f"model_name_or_path: {model_folder}\ndataset_name: {data}\n")
    short = {"max_steps": 1, "output_dir": tmp_path / "out", "report_to": "none", "use_cpu": True}
    assert exit_code(words({"config": file, "learning_rate": 1e-3, **short})) == 0
    before, after = (
        AutoModelForCausalLM.from_pretrained(f) for f in (model_folder, tmp_path / "out")
    )
    changed = [
        name
        for name, value in after.named_parameters()
        if not torch.equal(value, before.get_parameter(name))
    ]
    assert "model.embed_tokens.weight" in changed
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "</s>"


def test_a_run_that_stops_says_why(
    model_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = {"learning_rate": 1e38, "warmup_steps": 0, "max_steps": 3}
    assert train(model_folder, data, output, **options) == 1
    err = capsys.readouterr().err
    assert err.startswith("contralign: error: the loss is no longer finite after 1 updates.")
    assert err.count("\n") == 1
    assert (output / "stopped-at-step-1-process-0.json").is_file()
    assert not (output / "adapter_model.safetensors").exists()


def test_the_policy_by_mistake_is_noticed(
    model_folder: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(model_folder, data, tmp_path / "out", reference=model_folder, max_steps=1) == 0
    assert "gives exactly the policy's log-probs" in caplog.text


def test_an_interrupted_run_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert cli.main(["train", "dpo"]) == 130
    assert "--resume_from_checkpoint true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "required: METHOD"),
        (["dpx"], "there is no choice 'dpx'. Did you mean 'dpo'?"),
        (["dpo"], "output_dir says where the result goes, got none."),
        (["dpo", "--output_dir", "out"], "training starts from a model, got none. Set model_name"),
    ],
)
def test_there_is_a_method(given: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["train", *given]) == 2
    assert told in capsys.readouterr().err
