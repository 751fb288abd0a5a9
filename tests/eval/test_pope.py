from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contralign.eval.ask import Benchmark, Scored
from contralign.eval.pope import Pope


def folder(tmp_path: Path, splits: tuple[str, ...] = ("random", "popular", "adversarial")) -> Path:
    for split in splits:
        rows = [
            {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {split}?", "label": label}
            for n, label in ((1, "yes"), (2, "no"))
        ]
        path = tmp_path / f"coco_pope_{split}.json"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_rows_come_split_by_split(tmp_path: Path) -> None:
    benchmark = Pope(folder(tmp_path), splits="popular,random")
    assert isinstance(benchmark, Benchmark)
    assert [row["id"] for row in benchmark.load()] == [
        "popular/1",
        "popular/2",
        "random/1",
        "random/2",
    ]
    assert benchmark.version.startswith("1; popular=")


def test_one_file_can_be_asked(tmp_path: Path) -> None:
    file = folder(tmp_path) / "coco_pope_popular.json"
    assert [row["split"] for row in Pope(file).load()] == ["popular"] * 2
    other = file.rename(tmp_path / "annotations.json")
    assert [row["split"] for row in Pope(other).load()] == ["annotations"] * 2


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("llava", "Is there a cat?\nAnswer the question using a single word or phrase."),
        ("vcd", "Is there a cat? Please answer this question with one word."),
        ("bare", "Is there a cat?"),
    ],
)
def test_a_question_is_asked_about_its_picture(prompt: str, text: str) -> None:
    row = {"id": "random/1", "image": "1.jpg", "question": "Is there a cat?", "label": "yes"}
    ask = Pope(images="pictures", prompt=prompt, reading="labels", noise="image").ask(row)
    assert (ask.prompt, ask.images) == (text, (str(Path("pictures", "1.jpg")),))
    assert (ask.choices, ask.reading, ask.draw) == (("Yes", "No"), "labels", "1.jpg")
    assert Pope(images="pictures").ask(row).draw is None


def test_asking_needs_pictures_and_scoring_does_not(tmp_path: Path) -> None:
    benchmark = Pope(folder(tmp_path))
    row, *_ = benchmark.load()
    with pytest.raises(ValueError, match=r"got images=None\. Pass images=.*1\.jpg"):
        benchmark.ask(row)
    assert benchmark.score(row, "Yes.")["accuracy"] == 1


def test_the_parser_decides(tmp_path: Path) -> None:
    row, *_ = Pope(folder(tmp_path)).load()
    assert Pope().score(row, "Unknown") == {"accuracy": 0, "yes_ratio": 0, "unparsed": 1}
    assert Pope(parser="official").score(row, "Unknown")["accuracy"] == 1
    benchmark = Pope(parser="official")
    scored = [Scored(row, "Unknown", benchmark.score(row, "Unknown"))]
    assert next(iter(benchmark.summarise(scored))) == benchmark.metric


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"splits": "random,hard"}, "splits must be one of"),
        ({"parser": "vdc"}, "parser must be one of"),
        ({"prompt": "x"}, "prompt must be one of"),
        ({"reading": "x"}, "reading must be one of"),
        ({"noise": "x"}, "noise must be one of"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Pope(**options)


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="absent is none"):
        Pope(tmp_path / "absent").load()
    with pytest.raises(FileNotFoundError, match="coco_pope_popular"):
        Pope(folder(tmp_path, ("random",))).load()
    monkeypatch.delenv("CONTRALIGN_DATA", raising=False)
    with pytest.raises(ValueError, match="got path=None and no CONTRALIGN_DATA"):
        Pope().load()


def test_a_file_of_answers_is_matched(tmp_path: Path) -> None:
    benchmark = Pope(folder(tmp_path), splits="random")
    lines = [{"question_id": n, "text": t} for n, t in ((2, "No"), (1, "Yes"))]
    (file := tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [(row["id"], said) for row, said in benchmark.read_answers(file)] == [
        ("random/1", "Yes"),
        ("random/2", "No"),
    ]


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_answers_to_another_version_are_refused(tmp_path: Path) -> None:
    root = Path(os.environ["CONTRALIGN_DATA"])
    old, new = (root / name / "coco_pope_random.json" for name in ("pope_e3e3926", "pope"))
    answers = [json.loads(line) for line in new.read_text().splitlines()]
    lines = [{"question_id": a["question_id"], "prompt": a["text"], "text": "Yes"} for a in answers]
    (file := tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert len(Pope(new).read_answers(file)) == 3000
    with pytest.raises(ValueError, match="of questions another version than the one that was"):
        Pope(old).read_answers(file)
    (short := tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, lines[:2910])))
    with pytest.raises(ValueError, match="answers 2910 of 3000 questions; 90 are missing"):
        Pope(new).read_answers(short)
