"""The files are what readers of the real ones expect."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contralign.align.data import check, load
from contralign.eval.scenes import Optics, World
from contralign.eval.scenes.facts import ABOUT
from contralign.eval.scenes.files import make

TRAIN, TEST = 6, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scenes") / "files"
    make(World(), Optics(), output, train=TRAIN, test=TEST)
    return output


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_scene_has_its_picture(folder: Path) -> None:
    scenes = lines(folder / "scenes.jsonl")
    assert len(scenes) == TRAIN + 2 * TEST
    for scene in scenes:
        with Image.open(folder / "images" / f"{scene['id']}.png") as picture:
            assert picture.size == (72, 72)


@pytest.mark.parametrize("setting", ["random", "popular", "adversarial"])
def test_pope(folder: Path, setting: str) -> None:
    rows = lines(folder / "pope" / f"in-bias_{setting}.json")
    assert [row["question_id"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["label"] for row in rows} == {"yes", "no"}
    for row in rows:
        assert (folder / "images" / row["image"]).exists()


def test_chair(folder: Path) -> None:
    truth = json.loads((folder / "chair" / "in-bias.json").read_text())
    captions = lines(folder / "chair" / "in-bias_captions.jsonl")
    assert [row["image_id"] for row in captions] == list(truth)
    assert all(isinstance(row["caption"], str) for row in captions)


@pytest.mark.parametrize("about", ABOUT)
def test_mme(folder: Path, about: str) -> None:
    task = folder / "mme" / "counter-bias" / about
    asked = sorted((task / "questions_answers_YN").iterdir())
    assert asked
    for file in asked:
        assert (task / "images" / f"{file.stem}.png").exists()
        rows = [line.split("\t") for line in file.read_text().splitlines()]
        assert [answer for _, answer in rows] == ["Yes", "No"]
        assert all(question.endswith("? Please answer yes or no.") for question, _ in rows)


def test_amber(folder: Path) -> None:
    home = folder / "amber" / "in-bias"
    queries, notes, words = (
        json.loads((home / f"{name}.json").read_text())
        for name in ("query_all", "annotations", "relation")
    )
    assert [row["id"] for row in queries] == [row["id"] for row in notes]
    for query, note in zip(queries, notes, strict=True):
        if note["type"] == "generative":
            assert query["query"] == "Describe this image."
            assert not set(note["truth"]) & set(note["hallu"])
            assert set(note["truth"]) | set(note["hallu"]) <= set(words)
        else:
            assert query["query"].endswith("in this image?")
    absent = {note["truth"] for note in notes if note["type"].endswith("hallucination")}
    assert absent == {"no"}


def test_preferences_are_data_that_training_takes(folder: Path) -> None:
    rows = load(str(folder / "preferences" / "train.jsonl"), name=None, split="train")
    report = check(rows, None, None)
    assert (report.rows, report.unusable) == (TRAIN, 0)


def test_a_folder_that_holds_something_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="must be new or empty, but holds files"):
        make(World(), Optics(), folder, train=1, test=1)


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="needs CONTRALIGN_DATA")
def test_the_fields_are_those_of_the_real_files(folder: Path) -> None:
    real = Path(os.environ["CONTRALIGN_DATA"])
    pope = lines(real / "pope" / "coco_pope_random.json")[0]
    assert lines(folder / "pope" / "in-bias_random.json")[0].keys() == pope.keys()
    home = folder / "amber" / "in-bias"
    for name, source in (("query_all", "query/query_all"), ("annotations", "annotations")):
        theirs = json.loads((real / "amber" / f"{source}.json").read_text())
        ours = json.loads((home / f"{name}.json").read_text())
        assert {tuple(row) for row in ours} <= {tuple(row) for row in theirs}
        if name == "annotations":
            assert {row["type"] for row in ours} <= {row["type"] for row in theirs}
