"""What the trainer takes: rows as ids, none that can't be trained on, and nothing silent."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from align_tokenizers import shared, words
from align_vlms import picture, tiny_llava
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader

from contralign.align.data import PairCollator, preparation, prepare
from contralign.align.data.checks import examine
from contralign.align.data.encode import encode
from contralign.align.data.needs import RANKINGS

ROWS = [
    {"prompt": "a b", "chosen": " c d", "rejected": " e"},
    {"prompt": "a b", "chosen": " c", "rejected": ""},
    {"prompt": "c", "chosen": " c d e f", "rejected": " f"},
    {"prompt": "a b", "chosen": " c", "rejected": " c"},
]
USABLE = [ROWS[0], ROWS[2]]
PICTURES = [
    {"prompt": "<image> What?", "chosen": " A cat.", "rejected": " A dog.", "image": picture(i)}
    for i in range(3)
]


def lazily(rows: list[dict[str, Any]]) -> Any:
    yield from rows


def streamed(rows: list[dict[str, Any]]) -> IterableDataset:
    return IterableDataset.from_generator(lazily, gen_kwargs={"rows": rows})


def ids(row: dict[str, Any], max_length: int | None = None) -> dict[str, Any]:
    found = encode(row, words(), max_length)
    return {"prompt_ids": found.prompt, "completion_ids": found.completions}


@pytest.mark.parametrize("make", [Dataset.from_list, streamed])
def test_rows_that_cannot_be_trained_on_are_dropped_and_counted(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prepared, report = prepare(make(ROWS), words(), 5, "drop", name="the train data")
    assert list(prepared) == [ids(row, 5) for row in USABLE]
    assert (report.rows, report.unusable, report.dropped, report.truncated) == (4, 2, 2, 1)

    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    told = "the train data: dropped 2 of 4 rows"
    assert any(text.startswith(told) for text in said)
    assert any("empty-completion 1 (row 1)" in text for text in said)


@pytest.mark.parametrize("make", [Dataset.from_list, streamed])
def test_rows_that_cannot_be_trained_on_are_an_error_that_names_them(make: Any) -> None:
    told = r"of the data can't be trained on: .*\(row 1\).* on_problem: drop\."
    with pytest.raises(ValueError, match=told):
        list(prepare(make(ROWS), words(), None)[0])


def test_the_error_counts_all_rows() -> None:
    match = (
        r"^2 of the 4 rows of the eval data .*: empty-completion 1 \(row 1\), identical 1 \(row 3"
    )
    with pytest.raises(ValueError, match=match) as refused:
        prepare(Dataset.from_list(ROWS), words(), None, name="the eval data")
    assert f"row 1 begins {ROWS[1]['prompt']!r}: rejected is str ''. Repair" in str(refused.value)


def test_a_group_of_another_size_is_named_by_its_prompt() -> None:
    groups = [{"prompt": "a", "completions": [" b", " c", " d"][:k]} for k in (2, 3)]
    with pytest.raises(ValueError, match="row 1 begins 'a': it has 3 completions, the first row 2"):
        prepare(Dataset.from_list(groups), words(), None, needs=RANKINGS)


def test_warnings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    prepared, report = prepare(Dataset.from_list(USABLE), words(), 5)
    assert len(prepared) == 2
    assert (report.flagged, report.dropped) == (1, 0)
    assert "the data: truncated 1 (row 1)" in caplog.text


def test_nothing_is_said_of_good_rows(caplog: pytest.LogCaptureFixture) -> None:
    prepared, report = prepare(Dataset.from_list(USABLE), words(), None)
    assert prepared.column_names == ["prompt_ids", "completion_ids"]
    assert (str(report), caplog.text) == (
        "2 rows checked (the first is row 0): nothing found.",
        "",
    )


@pytest.mark.parametrize("make", [Dataset.from_list, streamed])
def test_weights_and_margins_are_kept_other_columns_are_not(make: Any) -> None:
    rows = [{**row, "weight": i, "margin": 0.5 - i, "id": i} for i, row in enumerate(USABLE)]
    prepared, _ = prepare(make(rows), words(), None)
    numbers = [{"weight": 0.0, "margin": 0.5}, {"weight": 1.0, "margin": -0.5}]
    assert list(prepared) == [{**ids(row), **n} for row, n in zip(USABLE, numbers, strict=True)]


@pytest.mark.parametrize("make", [Dataset.from_list, streamed])
def test_a_weight_that_only_some_rows_have_is_a_problem(make: Any) -> None:
    prepared, report = prepare(make([{**ROWS[0], "weight": 2.0}, ROWS[2]]), words(), None, "drop")
    assert [row["weight"] for row in prepared] == [2.0]
    assert report.findings["bad-number"].first[0].found == "weight is None"


def test_a_stream_whose_first_row_has_no_weight_has_none() -> None:
    prepared, report = prepare(
        streamed([ROWS[0], {**ROWS[2], "weight": 2.0}]), words(), None, "drop"
    )
    assert list(prepared) == [ids(ROWS[0])]
    (example,) = report.findings["bad-number"].first
    assert (example.row, example.found) == (1, "there is a weight, but not in the first row")


def test_a_stream_is_read_as_it_is_needed() -> None:
    prepared, report = prepare(streamed([*USABLE, {"broken": 1}]), words(), None)
    assert report.rows == 0
    assert next(iter(prepared)) == ids(ROWS[0])
    assert report.rows == 1
    with pytest.raises(ValueError, match=r"missing-completion 1 \(row 2\)"):
        list(prepared)


def test_dropping_from_a_stream_is_logged_as_it_goes(caplog: pytest.LogCaptureFixture) -> None:
    prepared, report = prepare(streamed([ROWS[1]] * 9 + [ROWS[0]]), words(), None, "drop")
    assert len(list(prepared)) == 1
    assert report.dropped == 9
    told = [record.getMessage().split(" rows")[0] for record in caplog.records]
    assert told == [f"the data: dropped {n} of {n}" for n in (1, 2, 4, 8)]


def test_workers_of_a_loader_read_a_stream() -> None:
    prepared, _ = prepare(streamed(USABLE), words(), None)
    loader = DataLoader(prepared, batch_size=2, num_workers=1, collate_fn=PairCollator())
    (batch,) = list(loader)
    assert batch["batch"].prompts == [ids(row)["prompt_ids"] for row in USABLE]


def test_processes_share_the_work() -> None:
    one, report = prepare(Dataset.from_list(ROWS), words(), 5, "drop")
    two, same = prepare(Dataset.from_list(ROWS), words(), 5, "drop", num_proc=2)
    assert list(one) == list(two)
    assert report == same


def test_what_is_on_disk_is_reused_until_the_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(row: Any, *args: Any) -> Any:
        calls.append(row)
        return examine(row, *args)

    monkeypatch.setattr(preparation, "examine", counted)
    Dataset.from_list(USABLE).save_to_disk(tmp_path / "rows")

    def calls_of_one() -> int:
        calls.clear()
        prepared, report = prepare(Dataset.load_from_disk(tmp_path / "rows"), words(), 5)
        assert (len(prepared), report.truncated) == (2, 1)
        return len(calls)

    assert [calls_of_one(), calls_of_one()] == [2, 0]
    monkeypatch.setattr(preparation, "_code", lambda: "other")
    assert calls_of_one() == 2


def test_rows_with_images_stay_as_they_are() -> None:
    _, processor = tiny_llava()
    dataset = Dataset.from_list([*PICTURES, {**PICTURES[0], "prompt": "What?"}])
    prepared, report = prepare(dataset, processor, None, "drop")
    assert prepared.column_names == dataset.column_names
    assert list(prepared) == list(dataset.select(range(3)))
    assert report.findings["image-count"].count == report.dropped == 1


def test_a_stream_of_images_is_encoded_once() -> None:
    _, processor = tiny_llava()
    prepared, _ = prepare(streamed(PICTURES), processor, None)
    lazily_encoded = PairCollator()(list(prepared))["batch"]
    collated = PairCollator(processor)(PICTURES)["batch"]
    assert lazily_encoded.prompts == collated.prompts
    for ours, theirs in zip(lazily_encoded.images, collated.images, strict=True):
        assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


def test_refuses() -> None:
    with pytest.raises(ValueError, match="on_problem is one of error, drop, got 'ignore'"):
        prepare(Dataset.from_list(ROWS), words(), None, "ignore")
    with pytest.raises(ValueError, match="the data has no row to train on, of 1: empty-completion"):
        prepare(Dataset.from_list([ROWS[1]]), words(), None, "drop")
    talk = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": c}] for c in "bc"]
    messages = Dataset.from_list([dict(zip(("chosen", "rejected"), talk, strict=True))])
    with pytest.raises(ValueError, match="messages need a chat template"):
        prepare(messages, words(), None, "drop")


def test_no_model_is_needed_and_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = shared("chatml")
    before = tokenizer.backend_tokenizer.to_str()
    row = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    prepare(Dataset.from_list([row]), tokenizer, 6)
    assert tokenizer.backend_tokenizer.to_str() == before
