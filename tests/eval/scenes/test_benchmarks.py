from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from contralign.eval.ask import Benchmark, Scored
from contralign.eval.scenes.benchmarks import ScenesCHAIR, ScenesMME, ScenesPOPE
from contralign.eval.scenes.facts import ABOUT
from contralign.eval.scenes.pictures import Optics

ALL = [ScenesPOPE(pictures=12), ScenesMME(pictures=12), ScenesCHAIR(pictures=12)]


def scored(benchmark: Any, say: Any) -> list[Scored]:
    return [Scored(row, text := say(row), benchmark.score(row, text)) for row in benchmark.load()]


@pytest.mark.parametrize("benchmark", ALL, ids=lambda one: one.name)
def test_each_row_has_an_id_and_asks_about_its_picture(benchmark: Benchmark) -> None:
    rows = benchmark.load()
    assert len({row["id"] for row in rows}) == len(rows)
    assert rows == benchmark.load()
    for row in rows[:: len(rows) // 5]:
        ask = benchmark.ask(row)
        (picture,) = ask.images
        assert (np.asarray(picture) == np.asarray(Optics().picture(row["scene"]))).all()
    assert ask.prompt.endswith((".", "?"))


def test_pope_has_as_many_yes_as_no_in_every_category() -> None:
    labels = Counter((row["category"], row["label"]) for row in ALL[0].load())
    assert {category for category, _ in labels} == {
        "random", "popular", "adversarial", "counter-bias",
    }  # fmt: skip
    for category, _ in labels:
        assert labels[category, "yes"] == labels[category, "no"] > 12


def test_pope_is_scored_as_pope_is() -> None:
    right = ALL[0].summarise(scored(ALL[0], lambda row: f"{row['label'].capitalize()}."))
    assert right["accuracy"].value == right["f1/adversarial"].value == 1
    agreeing = ALL[0].summarise(scored(ALL[0], lambda row: "Yes"))
    assert agreeing["accuracy"].value == 0.5
    assert agreeing["yes_ratio/counter-bias"].value == agreeing["recall"].value == 1
    silent = ALL[0].summarise(scored(ALL[0], lambda row: ""))
    assert silent["unparsed"].value == 1


def test_mme_asks_every_picture_for_a_yes_and_a_no() -> None:
    rows = ALL[1].load()
    labels = Counter((row["image"], row["category"], row["label"]) for row in rows)
    assert set(labels.values()) == {1}
    assert {row["category"] for row in rows} == set(ABOUT)
    assert ALL[1].ask(rows[0]).prompt.endswith("? Please answer yes or no.")


def test_mme_counts_pictures_with_both_answers_right() -> None:
    agreeing = ALL[1].summarise(scored(ALL[1], lambda row: "Yes"))
    assert agreeing["accuracy/color"].value == 0.5
    assert agreeing["both/color"].value == 0
    right = ALL[1].summarise(scored(ALL[1], lambda row: row["label"]))
    assert {right[f"both/{about}"].value for about in ABOUT} == {1}


def test_chair_counts_what_is_mentioned_and_not_there() -> None:
    row = ALL[2].load()[0]
    there, absent = row["gold"][0], row["scene"].absent[0]
    values = ALL[2].score(row, f"There is a red {there} and a {absent}, and a {absent}.")
    assert (values["chairs"], values["hallucinated"], values["mentions"]) == (1, 2, 3)
    said = scored(ALL[2], lambda row: f"There is a {row['gold'][0]}.")
    summary = ALL[2].summarise(said)
    assert (summary["chairs"].value, summary["chairi"].value) == (0, 0)
    kinds = sum(len(row["gold"]) for row in ALL[2].load())
    assert summary["recall"].value == pytest.approx(12 / kinds)


@pytest.mark.parametrize(
    ("kind", "options", "match"),
    [
        (ScenesPOPE, {"pictures": 0}, "pictures must be at least 1, got 0"),
        (ScenesMME, {"split": "train"}, "split must be one of in-bias, counter-bias"),
        (ScenesCHAIR, {"split": "random"}, "split must be one of in-bias, counter-bias"),
        (ScenesCHAIR, {"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_options_are_checked(kind: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        kind(**options)
