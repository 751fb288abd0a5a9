"""Checking rows: every problem is counted, with its first rows, and images are opened by us."""

from __future__ import annotations

import io
from typing import Any

import pytest
from align_tokenizers import shared, words
from align_vlms import picture, tiny_llava
from datasets import Dataset, Features, Image, List, Value

from contralign.align.data import PROBLEMS, check
from contralign.align.data.checks import examine, undecoded

GOOD = {"prompt": "a b", "chosen": " c d", "rejected": " e", "weight": 1.0}


def test_counts_every_problem_and_keeps_the_first_rows() -> None:
    rows = [GOOD, {**GOOD, "chosen": ""}, *[{**GOOD, "weight": -1.0}] * 7, {**GOOD, "chosen": " e"}]
    report = check(rows, words())

    assert (report.rows, report.unusable, report.flagged, report.tokens) == (10, 9, 0, True)
    counts = {finding.problem.name: finding.count for finding in report.ordered}
    assert counts == {"empty-completion": 1, "identical": 1, "bad-number": 7}
    weights = report.findings["bad-number"]
    assert [example.row for example in weights.first] == [2, 3, 4, 5, 6]
    assert weights.first[0].found == "weight is -1.0, below 0"
    assert weights.first[0].excerpt == "a b"


def test_warnings_leave_a_row_usable() -> None:
    report = check([GOOD, {**GOOD, "chosen": " c d c d c d"}], words(), 6)
    assert (report.unusable, report.flagged, report.truncated) == (0, 1, 1)
    assert examine(GOOD, words()).usable
    assert examine(GOOD, words()).numbers == {"weight": 1.0}


def test_without_a_tokenizer_the_rest_is_checked() -> None:
    talk = {
        "prompt": [{"role": "user", "content": "a"}],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "c"}],
    }
    rows = [
        talk,
        {**talk, "images": [picture()]},
        {**talk, "images": ["nowhere.png"]},
        {**talk, "chosen": talk["rejected"]},
    ]
    report = check(rows)
    counts = {finding.problem.name: finding.count for finding in report.ordered}
    assert counts == {"identical": 1, "unreadable-image": 1}
    assert (report.rows, report.tokens) == (4, False)


def test_a_tokenizer_that_no_row_can_be_read_with_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no eos_token"):
        check([GOOD], words(eos_token=None))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["image", "images"])
def test_a_broken_image_is_a_rows_problem(streaming: bool, column: str) -> None:
    whole = io.BytesIO()
    picture().save(whole, "jpeg")
    files = [whole.getvalue(), whole.getvalue()[:500], b"no image"]
    images = [{"bytes": file, "path": None} for file in files]
    many = column == "images"
    rows: Any = Dataset.from_dict(
        {
            "prompt": ["<image> What?"] * 3,
            "chosen": [" A cat."] * 3,
            "rejected": [" A dog."] * 3,
            column: [[image] for image in images] if many else images,
        },
        features=Features(
            {
                **{name: Value("string") for name in ("prompt", "chosen", "rejected")},
                column: List(Image()) if many else Image(),
            }
        ),
    )
    with pytest.raises(OSError, match=r"[Tt]runcated"):
        list(rows)
    rows = rows.to_iterable_dataset() if streaming else rows

    for processor in (None, tiny_llava()[1]):
        report = check(rows, processor)
        first = report.findings["unreadable-image"].first
        assert [example.row for example in first] == [1, 2]
        assert report.unusable == 2


def test_rows_without_images_stay_as_they_are() -> None:
    dataset = Dataset.from_list([GOOD])
    assert undecoded(dataset) is dataset
    assert undecoded([GOOD]) == [GOOD]


def test_each_problem_says_what_it_means() -> None:
    for name, problem in PROBLEMS.items():
        assert problem.name == name
        assert problem.severity in ("error", "warning")
        assert problem.explanation.endswith(".")


def test_an_error_is_all_that_is_said_of_a_row() -> None:
    row = {**GOOD, "prompt": "a " * 9, "chosen": " c " * 9}
    assert [name for name, _ in examine(row, words(), 5).problems] == ["prompt-too-long"]
    assert examine(row, words(), 5).encoded is None


def test_several_warnings_are_all_said() -> None:
    row = {"prompt": "<s> The sky is gr", "chosen": "een.", "rejected": "ay. It is not blue."}
    found = [name for name, _ in examine(row, shared("llama"), 12).problems]
    assert found == ["boundary", "double-bos", "truncated"]
