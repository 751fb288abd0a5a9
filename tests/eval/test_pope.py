from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from align_vlms import picture
from PIL import Image
from vlms import family

from contralign.decoding import parse_list
from contralign.eval.ask import Ask, Benchmark, Row, Scored
from contralign.eval.model import LanguageModel
from contralign.eval.pope import Pope
from contralign.eval.report import write_report
from contralign.eval.runner import run


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


@dataclass(frozen=True)
class Bytes(Pope):
    """POPE with labels that a model which knows bytes alone can say with one of them."""

    def ask(self, row: Row) -> Ask:
        return replace(super().ask(row), choices=("y", "n"))


def test_a_run_asks_equal_questions_once_and_survives_a_broken_picture(tmp_path: Path) -> None:
    questions, pictures = folder(tmp_path), tmp_path / "pictures"
    popular = questions / "coco_pope_popular.json"
    popular.write_text((questions / "coco_pope_random.json").read_text())
    pictures.mkdir()
    picture(1).save(pictures / "1.jpg")
    (pictures / "2.jpg").write_bytes(b"no picture")
    benchmark = Bytes(questions, pictures, splits="random,popular", reading="labels", noise="image")
    model = LanguageModel(*family("LLaVA-1.5"))
    result = run(benchmark, model, parse_list("greedy,vcd"), tmp_path / "run", batch_size=2)
    for outcome in result.outcomes:
        assert outcome.errors.keys() == {"random/2", "popular/2"}
        assert "2.jpg" in outcome.errors["random/2"]
        assert (outcome.asked, len(outcome.scored)) == (2, 2)
        assert outcome.answers["random/1"] == outcome.answers["popular/1"]
        assert outcome.estimates["accuracy"].n == 2
        assert outcome.off_label == 1
    write_report(result, tmp_path / "run", command="x")
    text = (tmp_path / "run" / "report.md").read_text()
    assert "greedy: 2 rows have an error instead of an answer" in text
    assert "greedy: 1 of 2 asks would have begun with none of their choices" in text


@pytest.mark.parametrize("broken", ["missing.jpg", "animated.gif", "huge.png"])
def test_a_bad_picture_is_its_row_s_error(tmp_path: Path, broken: str) -> None:
    questions = tmp_path / "q.jsonl"
    rows = [
        {"question_id": n, "image": image, "text": "Is there a cat?", "label": "yes"}
        for n, image in enumerate(("1.jpg", broken))
    ]
    questions.write_text("\n".join(map(json.dumps, rows)))
    picture(1).save(tmp_path / "1.jpg")
    picture(1).save(tmp_path / "animated.gif", save_all=True, append_images=[picture(2)])
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    model = LanguageModel(*family("LLaVA-1.5"))
    benchmark = Pope(questions, tmp_path, max_new_tokens=2)
    (outcome,) = run(benchmark, model, parse_list("greedy"), tmp_path / "run").outcomes
    assert [*outcome.errors] == ["q/1"]
    assert broken in outcome.errors["q/1"]
    assert len(outcome.scored) == 1
