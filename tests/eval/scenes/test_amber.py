from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contralign.eval.ask import Row, Scored
from contralign.eval.scenes.amber import TYPES, ScenesAMBER, imaginable

CAPTIONS = ScenesAMBER(pictures=20)
QUESTIONS = ScenesAMBER("discriminative", pictures=20)


def scored(benchmark: ScenesAMBER, say: Callable[[Row], str]) -> list[Scored]:
    rows = benchmark.load()
    return [Scored(row, text := say(row), benchmark.score(row, text)) for row in rows]


@pytest.mark.parametrize("benchmark", [CAPTIONS, QUESTIONS], ids=lambda one: one.task)
def test_each_row_has_an_id_and_the_headline_comes_first(benchmark: ScenesAMBER) -> None:
    rows = benchmark.load()
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(len(benchmark.ask(row).images) == 1 for row in rows)
    said = scored(benchmark, lambda row: "No")
    assert next(iter(benchmark.summarise(said))) == benchmark.metric
    assert benchmark.metric in said[0].values


def test_captions_are_held_against_what_is_there_and_what_might_be_imagined() -> None:
    row = CAPTIONS.load()[0]
    there, imagined = row["gold"][0], row["imagined"][0]
    other = next(kind for kind in row["scene"].absent if kind not in row["imagined"])
    values = CAPTIONS.score(row, f"There is a {there}, a {imagined} and a {other}.")
    assert (values["hal"], values["hallucinated"], values["imagined"]) == (1, 2, 1)
    assert row["imagined"] == imaginable(row["scene"], CAPTIONS.world)


def test_a_caption_of_one_thing_there_and_one_imagined() -> None:
    said = scored(CAPTIONS, lambda row: f"a {row['gold'][0]} and a {row['imagined'][0]}")
    summary = CAPTIONS.summarise(said)
    kinds = sum(len(row["gold"]) for row in CAPTIONS.load())
    assert {name: one.value for name, one in summary.items()} == {
        "hal": 1,
        "chair": 0.5,
        "cover": pytest.approx(20 / kinds),
        "cog": pytest.approx(1 / 3),
    }


def test_questions_ask_for_a_yes_and_a_no_and_about_what_is_absent() -> None:
    rows = QUESTIONS.load()
    assert {row["category"] for row in rows} == set(TYPES.values())
    assert {row["label"] for row in rows if row["category"] == TYPES["existence"]} == {"no"}
    for about in ("color", "count"):
        labels = [row["label"] for row in rows if row["category"] == TYPES[about]]
        assert labels.count("yes") == labels.count("no") == 20
    assert all(row["question"].endswith("in this image?") for row in rows)


def test_no_is_what_counts_as_positive() -> None:
    denying = QUESTIONS.summarise(scored(QUESTIONS, lambda row: "No."))
    absent = [row["label"] for row in QUESTIONS.load()].count("no") / len(QUESTIONS.load())
    assert denying["recall"].value == denying["no_ratio"].value == 1
    assert denying["precision"].value == denying["accuracy"].value == pytest.approx(absent)
    assert denying[f"accuracy/{TYPES['existence']}"].value == 1
    silent = QUESTIONS.summarise(scored(QUESTIONS, lambda row: ""))
    assert (silent["unparsed"].value, silent["accuracy"].value) == (1, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task": "both"}, "task must be one of generative, discriminative"),
        ({"split": "train"}, "split must be one of in-bias, counter-bias"),
        ({"pictures": 0}, "pictures must be at least 1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ScenesAMBER(**options)
