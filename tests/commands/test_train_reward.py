"""`contralign train reward`, from its config to a model that scores data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from train_runs import exit_code, pairs

from contralign.commands.train_help import text
from contralign.commands.train_options import read

REWARD = Path(__file__).parents[2] / "configs" / "train" / "reward.yaml"


def words(**options: Any) -> list[str]:
    given = {"config": REWARD, **options}
    typed = (word for name, value in given.items() for word in (f"--{name}", str(value)))
    return ["train", "reward", *typed]


def test_the_config_of_the_repository(tmp_path: Path) -> None:
    found = read("reward", ["--config", str(REWARD), "--output_dir", str(tmp_path / "out")])
    assert (found.config.on_problem, found.config.max_length) == ("drop", 1024)
    assert (found.model.lora_r, found.adapter.target_modules) == (16, "all-linear")
    assert found.config.metric_for_best_model == "rewards/accuracies"


@pytest.mark.filterwarnings("error")
def test_a_run_ends_with_a_model_that_scores(
    model_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, output = pairs(tmp_path), tmp_path / "out"
    options = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "test_split_size": 4}
    named = {"model_name_or_path": model_folder, "dataset_name": data, "output_dir": output}
    assert exit_code(words(**named, **options, use_cpu=True)) == 0
    out, err = capfd.readouterr()
    whose = "after update 2 of 2, the best evaluated by rewards/accuracies"
    assert out.splitlines()[-1] == f"Model, card and curves: {output} ({whose})"
    assert err == ""
    settings = yaml.safe_load((output / "train.yaml").read_text())
    assert settings["max_length"] == 1024
    assert (output / "checkpoint-2" / "trainer_state.json").is_file()
    card = (output / "README.md").read_text()
    assert "training: 16 pairs" in card
    assert "| evaluation: rewards/accuracies |" in card

    scored = tmp_path / "scored.jsonl"
    score = ["data", "score", str(data), "--reward-model-name-or-path", str(output)]
    assert exit_code([*score, "--output", str(scored)]) == 0
    rows = [json.loads(line) for line in scored.read_text().splitlines()]
    assert len({row["score_chosen"] for row in rows}) > 10


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_lenght": 5}, "there is no key 'max_lenght'. Did you mean 'max_length'?"),
        ({"center_reward": 5}, "Did you mean 'center_rewards_coefficient'?"),
        ({"lora_task_type": "SEQ_2_SEQ_LM"}, "lora_task_type isn't supported"),
        ({"eos_token": "x"}, "eos_token isn't supported, got 'x'"),
    ],
)
def test_keys_that_are_refused(
    options: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(words(output_dir=tmp_path / "out", **options)) == 2
    assert told in capsys.readouterr().err


def test_help() -> None:
    told = text("reward", everything=False)
    assert told.startswith("usage: contralign train reward --config FILE")
    assert "--center_rewards_coefficient" in told
    assert "--beta" not in told
    assert "longer pairs can't be trained on" in " ".join(told.split())
    assert "Not supported" not in text("reward", everything=True)
