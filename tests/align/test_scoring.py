"""Scores of the data: which columns they make, and what a reward may say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset

from contralign.align.data.needs import PAIRS, PROMPTS, RANKINGS, SCORED, Needs
from contralign.align.rewards import ColumnReward, as_reward
from contralign.align.scoring import replaced, to_be_read, with_scores

PAIR = {"prompt": "a", "chosen": " b b", "rejected": " c", "hint": "b"}
GROUP = {"prompt": "a", "completions": [" b", " b b", " c"], "hint": "c"}


@as_reward
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
        ([1.0, math.nan], "must be a finite number, got float nan"),
        ([1.0, None], "got None"),
        ([1.0, "2"], "got str '2'"),
    ],
)
def test_a_reward_gives_one_number_for_each(given: list[Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_scores(Dataset.from_list([PAIR]), as_reward(lambda **_: given), "the data")


def test_scores_of_the_data_give_way_to_the_rewards() -> None:
    old = {"score_chosen": 7.0, "score_rejected": 9.0, "score": 3}
    data = Dataset.from_list([{**PAIR, **old}])
    assert replaced(data.column_names, counts) == ["score_chosen", "score_rejected"]
    row = with_scores(data, counts, "the data")[0]
    assert (row["score_chosen"], row["score_rejected"], row["score"]) == (2.0, 0.0, 3)

    def halved(completions: Sequence[str], score_chosen: Sequence[float]) -> list[float]:
        return [score / 2 for score in score_chosen]

    halves = with_scores(data, as_reward(halved), "the data")[0]
    assert (halves["score_chosen"], halves["score_rejected"]) == (3.5, 3.5)
    assert replaced(data.column_names, ColumnReward("score")) == []


@pytest.mark.parametrize(
    ("needs", "said"), [(PAIRS, "train with CoPG"), (RANKINGS, "contralign data score")]
)
def test_a_reward_that_nobody_would_read_is_refused(needs: Needs, said: str) -> None:
    with pytest.raises(ValueError, match=f"DPO doesn't, got counts.*{said}"):
        to_be_read(counts, needs, "DPO")
    for reads in (SCORED, PROMPTS):
        assert to_be_read(counts, reads, "CoPG") == counts
    assert to_be_read(None, needs, "DPO") is None


def test_streams_are_scored_before() -> None:
    stream = Dataset.from_list([PAIR]).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"the data is a stream.*contralign data score"):
        with_scores(stream, counts, "the data")


def test_a_column_that_training_reads_stays() -> None:
    data = Dataset.from_list([{**PAIR, "score_chosen": 1.0, "score_rejected": 0.0}])
    assert with_scores(data, ColumnReward("score"), "the data") is data
    other = Dataset.from_list([{**GROUP, "ratings": [3, 2, 1]}])
    assert with_scores(other, ColumnReward("rating"), "the data")[0]["scores"] == [3, 2, 1]


def test_a_row_without_a_reward_is_named() -> None:
    data = Dataset.from_list([{**PAIR, "chosen": ""}, PAIR, {**PAIR, "hint": "none"}])

    def once(completions: Sequence[str], hint: Sequence[str]) -> list[float]:
        return [math.nan if one == "none" else 1.0 for one in hint]

    with pytest.raises(ValueError, match=r"the data, row 2 \(the first is row 0\): .* nan"):
        with_scores(data, as_reward(once), "the data")
