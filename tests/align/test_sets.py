"""Data sets of a run: prepared once each, and what was found in them as numbers and as words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from align_runs import config
from align_tokenizers import shared
from align_vlms import tiny_llava
from datasets import Dataset

from contralign.align.sets import Sets

GOOD = {"prompt": "a b", "chosen": " c", "rejected": " d e"}
LONG = {"prompt": "a b", "chosen": " c d e f a b", "rejected": " d"}
SAME = {"prompt": "a b", "chosen": " c", "rejected": " c"}


def data(*rows: dict[str, str]) -> Dataset:
    return Dataset.from_list(list(rows))


def sets(folder: Path, **options: Any) -> Sets:
    return Sets(config(folder, **options), shared("words"))


def test_rows_become_tokens(tmp_path: Path) -> None:
    made = sets(tmp_path)
    rows = made.prepared(data(GOOD), "training")
    tokens = shared("words").convert_tokens_to_ids(["a", "b", "c", "d", "e", "<eos>"])
    a, b, c, d, e, eos = tokens
    assert rows[0] == {"prompt_ids": [a, b], "completion_ids": [[c, eos], [d, e, eos]]}
    assert made.reports["training"].rows == 1


def test_what_is_ready_or_a_name_stays_as_it_is(tmp_path: Path) -> None:
    made = sets(tmp_path)
    rows = made.prepared(data(GOOD), "training")
    made.reports.clear()
    for ready in (rows, None, "evaluation"):
        assert made.prepared(ready, "evaluation") is ready
    assert made.reports == {}


def test_several_sets_go_by_their_names(tmp_path: Path) -> None:
    made = sets(tmp_path)
    several = made.prepared({"easy": data(GOOD), "hard": data(GOOD, LONG)}, "evaluation")
    assert {name: len(rows) for name, rows in several.items()} == {"easy": 1, "hard": 2}
    assert {name: len(rows["completion_ids"]) for name, rows in several.items()} == {
        "easy": 1,
        "hard": 2,
    }
    assert list(made.reports) == ["evaluation easy", "evaluation hard"]
    assert "data/evaluation_hard/rows" in made.numbers()


def test_what_was_found_as_numbers_and_as_words(tmp_path: Path) -> None:
    made = sets(tmp_path, max_length=6, on_problem="drop")
    rows = made.prepared(data(GOOD, LONG, SAME), "training")
    assert len(rows) == 2
    assert len(rows[1]["completion_ids"][0]) == 4
    assert made.numbers() == {
        "data/training/rows": 2,
        "data/training/dropped": 1,
        "data/training/truncated": 1,
    }
    assert made.lines() == [
        "training: 2 pairs, 1 of them cut to max_length, 1 others left out as unusable"
    ]


def test_rows_that_cannot_be_trained_on_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 of the 2 rows of the training data can't be trained"):
        sets(tmp_path).prepared(data(GOOD, SAME), "training")


def test_a_stream_counts_as_it_is_read(tmp_path: Path) -> None:
    made = sets(tmp_path)
    rows = made.prepared(data(GOOD, LONG).to_iterable_dataset(), "training")
    assert made.numbers()["data/training/rows"] == 0
    assert len(list(rows)) == 2
    assert made.numbers()["data/training/rows"] == 2


def test_the_tokenizer_may_be_a_processors(tmp_path: Path) -> None:
    _, processor = tiny_llava()
    assert Sets(config(tmp_path), processor).tokenizer is processor.tokenizer
    assert sets(tmp_path).tokenizer is shared("words")
