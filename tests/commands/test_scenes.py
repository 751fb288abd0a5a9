"""The controlled world from the command line: its files, its model, and training on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from contralign.cli import main
from contralign.commands.scenes import told

TINY = [
    *("--naming-steps=1", "--steps=1", "--batch-size=4", "--threads=1"),
    *("--width=16", "--layers=1", "--tower-width=16", "--tower-layers=1", "--heads=2"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "scenes"
    assert main(["scenes", "make", f"--out={folder}", "--train=8", "--test=2", "--noise=0"]) == 0
    return folder


def test_makes_files_of_a_world_as_it_is_told(files: Path) -> None:
    lines = (files / "scenes.jsonl").read_text().splitlines()
    splits = [json.loads(line)["id"].rpartition("-")[0] for line in lines]
    assert {split: splits.count(split) for split in splits} == {
        "train": 8,
        "in-bias": 2,
        "counter-bias": 2,
    }
    assert {path.name for path in files.iterdir()} >= {"pope", "chair", "mme", "amber"}


def test_trains_a_model_with_a_card_that_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    assert main(["scenes", "train", f"--out={folder}", *TINY, "--noise=3"]) == 0
    assert capsys.readouterr().out == f"Model: {folder}\n"
    assert AutoModelForImageTextToText.from_pretrained(folder).config.model_type == "llava"
    card = (folder / "README.md").read_text()
    assert f"contralign scenes train --out={folder} {' '.join(TINY)} --noise=3" in card
    assert '"noise": 3.0' in card


@pytest.mark.parametrize("words", [["make"], ["train", *TINY]])
def test_a_folder_that_holds_something_is_refused(
    words: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scenes", *words, f"--out={files}"]) == 2
    assert "must be new or empty" in capsys.readouterr().err


def test_says_the_mean_loss_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    tell = told(every=2)
    for step, loss in enumerate((4.0, 2.0, 1.0), 1):
        tell("naming", step, loss)
    assert capsys.readouterr().err == "naming, step 2: loss 3.000\n"


def test_its_preferences_are_checked_and_trained_on(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = files / "preferences" / "train.jsonl"
    assert main(["data", "check", str(data), "--model=scenes", "--max-length=96"]) == 0
    assert "8 rows checked" in capsys.readouterr().out
    command = [
        *("train", "dpo", "--model_name_or_path=scenes", f"--dataset_name={data}"),
        *("--max_steps=2", "--per_device_train_batch_size=4", f"--output_dir={tmp_path / 'dpo'}"),
        *("--report_to=none", "--bf16=false", "--use_cpu"),
    ]
    assert main(command) == 0
    assert (tmp_path / "dpo" / "model.safetensors").is_file()
