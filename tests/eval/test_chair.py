from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from contralign.eval.ask import Benchmark, Scored
from contralign.eval.chair import Chair, hallucination, summarise_chair

TRUTH = {"1": ["cat", "dog"], "42": ["bus"]}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return written(tmp_path / "truth.json", TRUTH)


def test_every_mention_counts_and_kinds_are_recalled_once() -> None:
    # dog, dog and fork named; dog and cat are there.
    assert hallucination(["dog", "dog", "fork"], {"dog", "cat"}) == {
        "chairs": 1,
        "hallucinated": 1,
        "mentions": 3,
        "named": 2,
        "recalled": 1,
        "truth": 2,
    }


def test_ratios_are_of_sums() -> None:
    both = [hallucination(["dog", "dog", "fork"], ["dog", "cat"]), hallucination(["bus"], ["bus"])]
    summary = summarise_chair([Scored({}, "", values) for values in both])
    found = {name: one.value for name, one in summary.items()}
    # 1 of 2 captions, 1 of 4 mentions; 2 recalled of 3 there and of 3 named.
    assert found == {
        "chairs": 1 / 2,
        "chairi": 1 / 4,
        "recall": pytest.approx(2 / 3),
        "precision": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
    }
    assert (summary["chairi"].n, summary["recall"].n) == (4, 2)


@pytest.mark.parametrize(
    ("values", "nan"),
    [
        ([], {"chairs", "chairi", "recall", "precision", "f1"}),
        ([hallucination([], ["dog"])], {"chairi", "precision"}),
        ([hallucination(["dog"], [])], {"recall"}),
        ([hallucination([], [])], {"chairi", "recall", "precision", "f1"}),
    ],
)
def test_ratios_of_nothing_are_nan(values: list[Any], nan: set[str]) -> None:
    summary = summarise_chair([Scored({}, "", one) for one in values])
    assert {name for name, one in summary.items() if math.isnan(one.value)} == nan


def test_rows_are_the_pictures_with_ground_truth_or_those_listed(
    truth: Path, tmp_path: Path
) -> None:
    assert isinstance(Chair(truth), Benchmark)
    assert Chair(truth).load()[1] == {"id": "42", "image": 42, "objects": ["bus"], "gold": ["bus"]}
    listed = written(tmp_path / "list.txt", "COCO_val2014_000000000042.jpg\n\n1\n")
    assert [row["id"] for row in Chair(truth, listed=listed).load()] == ["42", "1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("7\n", r"list\.txt: .* has no objects of picture 7, and of 1 pictures in all"),
        ("1\n1\n", "each once, got 1 more than once"),
        ("\n", "each once, got none"),
        ("cat.jpg\n", r"list\.txt:1: an image is a number"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(
    truth: Path, tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Chair(truth, listed=written(tmp_path / "list.txt", text)).load()


def test_a_picture_is_found_under_coco_s_names(truth: Path, tmp_path: Path) -> None:
    (tmp_path / "COCO_train2014_000000000042.jpg").touch()
    benchmark = Chair(truth, images=tmp_path, prompt="pai")
    row = benchmark.load()[1]
    ask = benchmark.ask(row)
    assert ask.images == (str(tmp_path / "COCO_train2014_000000000042.jpg"),)
    assert ask.prompt == "Please help me describe the image in detail."
    own = Chair(truth, images="p", file_name="{number}.png").ask(row)
    assert own.images == (str(Path("p", "42.png")),)
    with pytest.raises(ValueError, match="got images=None"):
        Chair(truth).ask(row)
    with pytest.raises(ValueError, match=r"file_name is a format such as .*, got '\{n\}\.png'"):
        Chair(truth, images="p", file_name="{n}.png").ask(row)


def test_a_cut_caption_can_lose_its_half_sentence(truth: Path) -> None:
    row = Chair(truth).load()[0]
    said = "A cat. Beside it a fork and"
    assert Chair(truth).score(row, said)["hallucinated"] == 1
    assert Chair(truth, cut=True).score(row, said)["hallucinated"] == 0


@pytest.mark.parametrize(
    ("captions", "complaint"),
    [
        ([(1, "a cat"), (1, "a dog")], r"c\.json, element 2: picture 1 has another caption at"),
        ([(1, "a cat"), (7, "a dog")], r"element 2: there is no ground truth of picture 7"),
        ([(1, "a cat")], "captions 1 of 2 pictures; the first that is missing is 42"),
    ],
)
def test_captions_that_do_not_fit_are_refused(
    truth: Path, tmp_path: Path, captions: list[tuple[int, str]], complaint: str
) -> None:
    rows = [{"image_id": number, "caption": text} for number, text in captions]
    listed = written(tmp_path / "list.txt", "1\n42\n")
    with pytest.raises(ValueError, match=complaint):
        Chair(truth, listed=listed).read_answers(written(tmp_path / "c.json", rows))


def test_without_a_list_the_captions_are_the_list(truth: Path, tmp_path: Path) -> None:
    rows = [
        {"image_id": "COCO_val2014_000000000042.jpg", "caption": "a bus"},
        {"image_id": 7, "caption": ""},
    ]
    file = written(tmp_path / "c.json", rows)
    found = Chair(truth).read_answers(file, ignore_extra=True)
    assert [(row["id"], said) for row, said in found] == [("42", "a bus")]


GOLDEN = {
    ("pattern", "greedy"): (0.4500, 0.127842, 0.797900, None),
    ("pattern", "beam5"): (0.4900, 0.138985, 0.795932, None),
    ("pattern", "ours"): (0.4480, 0.128333, 0.788714, None),
    ("wordnet", "greedy"): (0.4500, 0.127278, 0.803806, 0.96872),
    ("wordnet", "beam5"): (0.4880, 0.138757, 0.803150, 0.95692),
    ("wordnet", "ours"): (0.4460, 0.127566, 0.795276, 0.92714),
}
"""Of the official scripts on the captions that OPERA released: CHAIRs, CHAIRi, recall, Len."""


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
@pytest.mark.parametrize(("reading", "name"), GOLDEN)
def test_the_official_numbers_come_out_of_the_released_captions(reading: str, name: str) -> None:
    root = Path(os.environ["CONTRALIGN_DATA"], "chair")
    benchmark = Chair(root / "gt_objects_opera500.json", reading=reading)
    found = benchmark.read_answers(root / "captions_llava_1_5" / f"{name}.jsonl")
    assert len(found) == 500
    summary = benchmark.summarise([Scored(row, x, benchmark.score(row, x)) for row, x in found])
    *shares, length = GOLDEN[reading, name]
    assert [round(summary[key].value, 6) for key in ("chairs", "chairi", "recall")] == shares
    if length is not None:
        assert round(summary["length"].value / 100, 5) == length
