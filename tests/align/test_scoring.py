"""Rewards as functions: which columns they make, and what they may say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset

from contralign.align.scoring import judge, spoken, with_scores

PAIR = {"prompt": "a", "chosen": " b b", "rejected": " c", "hint": "b"}
GROUP = {"prompt": "a", "completions": [" b", " b b", " c"], "hint": "c"}


def counts(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """How often a completion has the letter of the column hint."""
    assert len(prompts) == len(completions)
    hints = columns["hint"]
    return [float(said.count(hint)) for said, hint in zip(completions, hints, strict=True)]


def test_a_pair_and_a_group_get_the_columns_that_training_reads() -> None:
    pair = with_scores(Dataset.from_list([PAIR] * 70), counts, "the data")
    assert pair.column_names == [*PAIR, "score_chosen", "score_rejected"]
    assert (pair[69]["score_chosen"], pair[69]["score_rejected"]) == (2.0, 0.0)
    group = with_scores(Dataset.from_list([GROUP]), counts, "the data")
    assert group[0]["scores"] == [0.0, 0.0, 1.0]
    one = {"prompt": "a", "completion": " b", "baseline": 0.0, "hint": "b"}
    assert with_scores(Dataset.from_list([one]), counts, "the data")[0]["score"] == 1.0


def test_rows_that_cannot_be_read_wait_for_the_check() -> None:
    data = Dataset.from_list([{**PAIR, "chosen": ""}, PAIR])
    assert with_scores(data, counts, "the data")["score_chosen"] == [None, 2.0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1.0], "got 1 for 2"),
        ([1.0, math.nan], "gives finite numbers, got nan"),
        ([1.0, None], "got None"),
        ([1.0, "2"], "got '2'"),
    ],
)
def test_a_reward_gives_one_number_for_each(given: list[Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_scores(Dataset.from_list([PAIR]), lambda **_: given, "the data")


def test_scores_come_from_one_place() -> None:
    data = Dataset.from_list([{**PAIR, "score_chosen": 1.0, "score_rejected": 0.0}])
    with pytest.raises(ValueError, match="has score_chosen and a reward was passed"):
        with_scores(data, counts, "the data")


def test_streams_are_scored_before() -> None:
    stream = Dataset.from_list([PAIR]).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"the data is a stream.*contralign data score"):
        with_scores(stream, counts, "the data")


def test_samples_are_messages_where_the_prompt_is() -> None:
    assert spoken(["b"], "a") == {"prompt": "a", "completions[0]": "b"}
    talk = [{"role": "user", "content": "a"}]
    seen: dict[str, Any] = {}

    def remember(**given: Any) -> list[float]:
        seen.update(given)
        return [1.0, 2.0]

    rows = [{"prompt": talk, "chosen": talk, "hint": "x"}]
    assert judge(remember, rows, [spoken(["b", "c"], talk)]) == [[1.0, 2.0]]
    assert seen == {
        "prompts": [talk, talk],
        "completions": [[{"role": "assistant", "content": said}] for said in "bc"],
        "hint": ["x", "x"],
    }
