from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.eval.ask import Scored
from contralign.eval.confusion import (
    CELLS,
    MEASURES,
    confusion,
    measures,
    score_yes_no,
    summarise_yes_no,
)
from contralign.eval.yes_no import PARSERS


def rows(*answers: tuple[str, str], split: str = "random", first: int = 0) -> list[Scored]:
    """A picture a row."""
    return [
        Scored({"id": f"{split}/{i}", "image": str(i), "split": split, "label": label}, said, {})
        for i, (label, said) in enumerate(answers, first)
    ]


def values(scored: list[Scored], parser: str = "ours") -> dict[str, float]:
    return {name: one.value for name, one in summarise_yes_no(scored, parser).items()}


def test_the_counts_that_llava_published_give_its_numbers() -> None:
    # LLaVA-1.5 on the 2910 random questions: TP 1183, FP 31, TN 1379, FN 317.
    counts = np.array([1183.0, 317, 0, 31, 1379, 0])
    found = {name: float(value) for name, value in measures(counts).items()}
    assert found["f1"] == pytest.approx(0.8718, abs=5e-5)
    assert found["accuracy"] == (1183 + 1379) / 2910
    assert found["precision"] == 1183 / 1214
    assert found["recall"] == 1183 / 1500
    assert found["yes_ratio"] == 1214 / 2910


@pytest.mark.parametrize(
    ("parser", "accuracy", "recall", "yes_ratio"),
    # Yes-questions: yes, no, ?; no-questions: yes, no, ?.
    [
        ("ours", 2 / 6, 1 / 3, 2 / 6),
        ("vlmevalkit", 2 / 6, 1 / 3, 2 / 6),
        ("lmms", 2 / 6, 1 / 2, 2 / 6),
        ("repope", 2 / 4, 1 / 2, 2 / 4),
        ("official", 3 / 6, 2 / 3, 4 / 6),
        ("vcd", 2 / 6, 1 / 3, 3 / 6),
    ],
)
def test_a_parser_says_where_what_it_cannot_read_counts(
    parser: str, accuracy: float, recall: float, yes_ratio: float
) -> None:
    said = [(label, text) for label in ("yes", "no") for text in ("yes", "no", "?")]
    found = values(rows(*said), parser)
    assert (found["accuracy"], found["recall"], found["yes_ratio"]) == (accuracy, recall, yes_ratio)
    assert found["precision"] == (1 / 3 if parser == "vcd" else 1 / 2)
    assert found["unparsed"] == (0 if parser in ("official", "vcd") else 2 / 6)


def test_a_row_has_the_values_that_the_summary_is_made_of() -> None:
    assert score_yes_no("no", "Yes.") == {"accuracy": 0, "yes_ratio": 1, "unparsed": 0}
    assert score_yes_no("no", "?") == {"accuracy": 0, "yes_ratio": 0, "unparsed": 1}
    assert score_yes_no("no", "?", "repope") == {"accuracy": None, "yes_ratio": None, "unparsed": 1}


def test_means_are_over_splits_not_over_rows() -> None:
    easy = rows(("yes", "yes"), ("no", "no"), split="random")
    hard = rows(("yes", "yes"), ("no", "yes"), ("no", "yes"), ("no", "yes"), split="adversarial")
    found = values([*easy, *hard])
    assert (found["accuracy/random"], found["accuracy/adversarial"]) == (1, 1 / 4)
    assert found["accuracy"] == (1 + 1 / 4) / 2
    # F1 of the second: precision 1/4, recall 1, so 2 / 5.
    assert found["f1"] == pytest.approx((1 + 2 / 5) / 2)
    names = {
        *MEASURES,
        *(f"{name}/{split}" for name in MEASURES for split in ("random", "adversarial")),
    }
    assert found.keys() == names


def test_a_split_alone_is_not_listed_twice() -> None:
    assert tuple(values(rows(("yes", "yes")))) == MEASURES


@pytest.mark.parametrize(
    ("answers", "nan"),
    [
        ([], set(MEASURES)),
        ([("no", "no")], {"precision", "recall", "f1"}),
        ([("yes", "no")], {"precision"}),
        ([("no", "yes")], {"recall"}),
        ([("yes", "?")], {"precision"}),
    ],
)
def test_what_has_no_value_is_nan_and_never_an_error(
    answers: list[tuple[str, str]], nan: set[str]
) -> None:
    found = summarise_yes_no(rows(*answers))
    assert {name for name, one in found.items() if math.isnan(one.value)} == nan


def test_the_interval_of_a_mean_draws_pictures_whole() -> None:
    """Two splits that ask the same say no more than one."""
    answers = [("yes", "yes"), ("yes", "no"), ("no", "no")] * 20
    once = summarise_yes_no(rows(*answers, split="random"))
    twice = summarise_yes_no([*rows(*answers, split="random"), *rows(*answers, split="popular")])
    other = summarise_yes_no(
        [*rows(*answers, split="random"), *rows(*answers, split="popular", first=60)]
    )
    assert twice["f1"].low == once["f1"].low
    assert other["f1"].high - other["f1"].low < 0.9 * (once["f1"].high - once["f1"].low)


@given(st.lists(st.sampled_from(CELLS), min_size=1, max_size=40))
def test_f1_is_the_harmonic_mean_wherever_both_have_a_value(cells: list[str]) -> None:
    pairs: list[Any] = [tuple(cell.replace("None", "?").split("/")) for cell in cells]
    counts = confusion([(label, None if said == "?" else said) for label, said in pairs])
    for parser in PARSERS.values():
        found = {name: float(value) for name, value in measures(counts, parser).items()}
        p, r = found["precision"], found["recall"]
        if p + r > 0:
            assert found["f1"] == pytest.approx(2 * p * r / (p + r))
        assert all(math.isnan(value) or 0 <= value <= 1 for value in found.values())
