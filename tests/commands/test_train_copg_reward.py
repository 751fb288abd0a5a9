"""`contralign train copg` with a reward: before training, online, on pictures, and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from train_runs import exit_code, history, hollow, pairs, train, written

from contralign.commands.train_options import read
from contralign.eval.scenes import Optics, World
from contralign.eval.scenes import pairs as faithful_and_not

MODULE = """
def vowels(completions, **columns):
    return [float(sum(word in "aeiou" for word in said.split())) for said in completions]

def others(completions, **columns):
    return [float(len(said)) for said in completions]
"""
ONLINE: dict[str, Any] = {
    "online": True,
    "num_generations": 3,
    "max_completion_length": 5,
    "per_device_train_batch_size": 4,
    "max_length": 64,
}


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of rewards in the working directory."""
    name = f"judges_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_scores_come_from_a_function_a_file_or_another_column(
    judges: str, model_folder: Path, tmp_path: Path
) -> None:
    data, vowels = pairs(tmp_path), f"{judges}.vowels"
    assert train(model_folder, data, tmp_path / "now", "copg", reward_funcs=vowels) == 0
    told = ["--score-name", "told", "--output", "scored.jsonl"]
    assert exit_code(["data", "score", str(data), "--reward-funcs", vowels, *told]) == 0
    scored = tmp_path / "scored.jsonl"
    assert train(model_folder, scored, tmp_path / "column", "copg", reward_column="told") == 0
    rows = [json.loads(line) for line in scored.read_text().splitlines()]
    file = written(
        tmp_path / "before.jsonl",
        [{name.replace("told", "score"): value for name, value in row.items()} for row in rows],
    )
    assert train(model_folder, file, tmp_path / "before", "copg") == 0
    assert history(tmp_path / "now") == history(tmp_path / "before")
    assert history(tmp_path / "now") == history(tmp_path / "column")


def test_scores_that_are_there_give_way_to_a_reward(
    judges: str, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vowels, old = f"{judges}.vowels", {"score_chosen": 1.0, "score_rejected": 0.0}
    told = f"scored by {vowels} in place of its score_chosen and score_rejected"
    data, output = pairs(tmp_path, **old), tmp_path / "out"
    assert train(model_folder, data, output, "copg", reward_funcs=vowels) == 0
    assert caplog.text.count(f"the training data is {told}") == 1
    assert told in (output / "README.md").read_text()
    assert train(model_folder, pairs(tmp_path), tmp_path / "bare", "copg", reward_funcs=vowels) == 0
    assert history(output) == history(tmp_path / "bare")


def test_an_online_run_is_repeated_from_its_settings(
    judges: str, model_folder: Path, tmp_path: Path
) -> None:
    output, again = tmp_path / "out", tmp_path / "again"
    judge = {"reward_funcs": f"{judges}.vowels"}
    assert train(model_folder, pairs(tmp_path), output, "copg", **ONLINE, **judge) == 0
    assert yaml.safe_load((output / "train.yaml").read_text())["reward_funcs"] == [
        f"{judges}.vowels"
    ]
    given = ["--config", f"{output}/train.yaml", "--output_dir", str(again)]
    assert exit_code(["train", "copg", *given]) == 0
    assert history(again) == history(output)


def test_a_run_is_resumed_with_its_own_reward(
    judges: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, data = tmp_path / "out", pairs(tmp_path)
    saved = {**ONLINE, "save_steps": 1, "load_best_model_at_end": False}
    assert train(model_folder, data, output, "copg", **saved, reward_funcs=f"{judges}.vowels") == 0
    again = {**saved, "resume_from_checkpoint": output / "checkpoint-1"}
    assert train(model_folder, data, output, "copg", **again, reward_funcs=f"{judges}.others") == 2
    assert "of a run with other settings: reward_funcs" in capsys.readouterr().err
    (tmp_path / f"{judges}.py").write_text(MODULE + "# changed")
    assert train(model_folder, data, output, "copg", **again, reward_funcs=f"{judges}.vowels") == 2
    assert "of a run with other settings: reward.code of " in capsys.readouterr().err


def test_pictures_are_sampled_for_and_judged(tmp_path: Path) -> None:
    world, optics = World(), Optics()
    scenes = world.scenes("train", 4)
    for scene in scenes:
        optics.picture(scene).save(tmp_path / f"{scene.id}.png")
    rows = [{**row, "images": [f"{row['id']}.png"]} for row in faithful_and_not(scenes, world)]
    data, output = written(tmp_path / "scenes.jsonl", rows), tmp_path / "out"
    judge = {"reward_funcs": "contralign.eval.scenes.recall_reward"}
    given = {**ONLINE, **judge, "max_completion_length": 24, "dtype": "float32"}
    assert train(Path("scenes"), data, output, "copg", **given) == 0
    assert all(-5 < score <= 1 for score in history(output, "scores/mean"))


MODEL = "reward_model_name_or_path"
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"reward_funcs": "a.b", "reward_column": "c"}, "got reward_funcs and reward_column"),
    ({}, {"reward_batch_size": 4}, "a reward is exactly one of reward_model_name_or_path"),
    ({}, {"reward_funcs": "a.b", "reward_dtype": "float32"}, "dtype are of a reward model, got"),
    ({}, {"reward_funcs": "nowhere.f"}, "there is no module nowhere"),
    ({}, {"reward_funcs": "contralign.eval.scenes.recall_reward"}, "reads the column 'objects'"),
    ({}, {"reward_column": "told"}, "reward_column is a column of the data (told, tolds"),
    ({}, {MODEL: "./nowhere"}, "hub id or a folder"),
    ({}, {"reward_column": "score", **ONLINE}, "not samples, got reward_column 'score' with"),
    ({}, {"reward_function": "a.b"}, "there is no key 'reward_function'."),
    ({"told_chosen": 1.0, "told_rejected": "2"}, {"reward_column": "told"}, "row 0 (the first is"),
]


@pytest.fixture(scope="module")
def empty(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without weights: only what is refused before it's loaded says something else."""
    return hollow(model_folder, tmp_path_factory.mktemp("models") / "hollow")


@pytest.mark.parametrize(("columns", "given", "told"), REFUSED)
def test_before_the_model_is_loaded(
    columns: dict[str, Any],
    given: dict[str, Any],
    told: str,
    empty: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(empty, pairs(tmp_path, **columns), tmp_path / "out", "copg", **given) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_is_a_reward(tmp_path: Path) -> None:
    """Its options are those of `contralign data score`."""
    words = ["--model_name_or_path", "org/m", "--dataset_name", "d", "--output_dir", str(tmp_path)]
    judge = ["--reward_model_name_or_path", "org/r", "--reward_max_length", "9"]
    found = read("copg", [*words, *judge]).reward
    assert (found.model, found.max_length, found.batch_size) == ("org/r", 9, 8)
