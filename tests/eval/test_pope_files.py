from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contralign.eval.pope_files import question_files, read_questions, same_question, version

DATA = pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA")


def question(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "question_id": number,
        "image": f"{number}.jpg",
        "text": f"Is there a thing {number} in the image?",
        "label": "yes",
    } | changes


def written(path: Path, *rows: dict[str, Any], array: bool = False) -> Path:
    path.write_text(json.dumps(rows) if array else "".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("array", [False, True], ids=["POPE", "SEEM"])
def test_a_question_is_read_from_lines_and_from_an_array(tmp_path: Path, array: bool) -> None:
    (row,) = read_questions(written(tmp_path / "q.json", question(7), array=array), "popular")
    assert row == {
        "id": "popular/7",
        "question_id": 7,
        "image": "7.jpg",
        "question": "Is there a thing 7 in the image?",
        "label": "yes",
        "gold": "yes",
        "split": "popular",
    }


def test_popev2_has_other_names_and_capitals(tmp_path: Path) -> None:
    row = {"image_id": 3, "image_name": "3.jpg", "target_object": "cat", "query": "Is there a cat?"}
    path = written(tmp_path / "annotations.json", {**row, "label": "No"}, array=True)
    (found,) = read_questions(path, "v2")
    assert (found["id"], found["image"], found["question"]) == ("v2/1", "3.jpg", "Is there a cat?")
    assert found["label"] == "no"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [question(1), question(2), question(1)],
            ":3: every question has a question_id of its own",
        ),
        ([question(1, label="maybe")], ":1: a label is yes or no, got 'maybe'"),
        ([{"question_id": 1, "label": "no"}], ":1: needs a field 'image' or 'image_name'"),
        ([question(1, text=5)], ":1: the field 'text' has a bad value"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"q\.json{complaint}"):
        read_questions(written(tmp_path / "q.json", *rows), "random")


def test_files_are_found_under_every_release_s_name(tmp_path: Path) -> None:
    for name in ("gqa_pope_seem_random.json", "coco_repope_random.json", "coco_pope_popular.json"):
        written(tmp_path / name, question(1))
    assert question_files(tmp_path, "gqa", ["random"])["random"].name == "gqa_pope_seem_random.json"
    assert [*question_files(tmp_path, "coco", ["random", "popular"])] == ["random", "popular"]
    with pytest.raises(FileNotFoundError, match=r"has no coco_pope_adversarial\.json or"):
        question_files(tmp_path, "coco", ["adversarial"])


def test_an_unknown_file_s_version_is_its_digest(tmp_path: Path) -> None:
    path = written(tmp_path / "q.json", question(1))
    before = version(path)
    assert len(before) == 12
    assert version(written(path, question(2))) != before


@pytest.mark.data
@DATA
@pytest.mark.parametrize(
    ("folder", "name", "rows", "release"),
    [
        ("pope", "coco_pope_random.json", 3000, "POPE @08d957b and VCD"),
        ("pope_e3e3926", "coco_pope_random.json", 2910, "POPE @e3e39262"),
        ("pope_vcd", "gqa_pope_adversarial.json", 3000, "VCD"),
    ],
)
def test_the_circulating_versions_are_told_apart(
    folder: str, name: str, rows: int, release: str
) -> None:
    path = Path(os.environ["CONTRALIGN_DATA"], folder, name)
    assert len(read_questions(path, "random")) == rows
    assert version(path).startswith(f"{release}:")


@pytest.mark.data
@DATA
def test_all_versions_ask_the_same_but_for_a_misprint() -> None:
    root = Path(os.environ["CONTRALIGN_DATA"])
    asked = [
        {
            (row["image"], same_question(row["question"]), row["label"])
            for row in read_questions(root / folder / "coco_pope_random.json", "random")
        }
        for folder in ("pope", "pope_e3e3926")
    ]
    assert asked[1] < asked[0]
    assert len(asked[0] - asked[1]) == 90


@pytest.mark.data
@DATA
def test_the_files_of_most_papers_ask_a_little_over_half_of_what_they_count() -> None:
    folder = Path(os.environ["CONTRALIGN_DATA"], "pope_vcd")
    counted = {}
    for dataset in ("coco", "aokvqa", "gqa"):
        files = question_files(folder, dataset, ("random", "popular", "adversarial"))
        rows = [row for split, file in files.items() for row in read_questions(file, split)]
        asked = {(row["image"], row["question"]) for row in rows}
        counted[dataset] = (len(rows), len(asked), len({row["image"] for row in rows}))
    assert counted == {
        "coco": (9000, 5170, 500),
        "aokvqa": (9000, 5145, 500),
        "gqa": (9000, 5171, 500),
    }
