"""Rows of every layout, and where their scores stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from contralign.align.data import RowError
from contralign.align.rewards import ColumnReward, RewardError, question
from contralign.align.rewards.questions import ask

PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
GROUP = {"prompt": "a", "completions": ["b", "c", "d"]}
SINGLE = {"prompt": "a", "completion": "b"}
USER = {"role": "user", "content": "a"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


class Lengths:
    """A reward that remembers the columns it was asked with."""

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, columns: Any) -> None: ...

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]
    ) -> list[float]:
        self.columns = columns
        return [
            float(len(prompt + text)) for prompt, text in zip(prompts, completions, strict=True)
        ]


@pytest.mark.parametrize(
    ("row", "completions", "columns"),
    [
        (PAIR, ["b", "c"], ["score_chosen", "score_rejected"]),
        (GROUP, ["b", "c", "d"], ["scores"]),
        (SINGLE, ["b"], ["score"]),
        (
            {"chosen": [USER, said("b")], "rejected": [USER, said("c")]},
            [[said("b")], [said("c")]],
            ["score_chosen", "score_rejected"],
        ),
    ],
)
def test_layouts(row: dict[str, Any], completions: list[Any], columns: list[str]) -> None:
    found = question({**row, "objects": ["cup"]})
    assert (found.prompt, list(found.completions)) == (
        "a" if "prompt" in row else [USER],
        completions,
    )
    assert found.columns["objects"] == ["cup"]
    assert list(found.scored([1.0] * len(completions))) == columns


def test_columns_are_repeated_for_each_completion() -> None:
    reward = Lengths()
    rows = [question({**PAIR, "n": 1}), question({**GROUP, "m": 2})]
    assert ask(reward, rows) == [[2.0, 2.0], [2.0, 2.0, 2.0]]
    assert reward.columns == {"n": [1, 1, None, None, None], "m": [None, None, 2, 2, 2]}


def test_a_column_reward_reads_the_scores_of_each_layout() -> None:
    rows = [
        {**PAIR, "score_chosen": 2, "score_rejected": 1.5},
        {**GROUP, "scores": [1, 2, 3]},
        {**SINGLE, "score": 7},
    ]
    found = ask(ColumnReward("score"), [question(row) for row in rows])
    assert found == [[2.0, 1.5], [1.0, 2.0, 3.0], [7.0]]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**PAIR, "score_chosen": 2, "score_rejected": "1"}, "column score .* got str '1'"),
        ({**PAIR, "score_chosen": float("nan"), "score_rejected": 1}, "got float nan"),
        ({**PAIR, "score_chosen": 1}, "got None"),
        ({**GROUP, "scores": [1, 2]}, "got None"),
    ],
)
def test_scores_that_are_none_name_their_row(row: dict[str, Any], told: str) -> None:
    good = {**PAIR, "score_chosen": 2, "score_rejected": 1}
    with pytest.raises(RewardError, match=told) as error:
        ask(ColumnReward("score"), [question(good), question(row)])
    assert error.value.index == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "a"}, "unknown-format"),
        ({"prompt": "a", "completions": "b"}, "wrong-type"),
        ({"prompt": "a", "completions": []}, "missing-completion"),
        ({"prompt": "a", "completions": ["b", " "]}, "empty-completion"),
        ({"prompt": "a", "completions": ["b", [said("c")]]}, "wrong-type"),
        ({"completions": ["b", "c"]}, "missing-prompt"),
        ({**PAIR, "chosen": "c"}, "identical"),
        ({**PAIR, "completions": ["b", "c"]}, "unknown-format"),
    ],
)
def test_rows_that_cannot_be_asked_about(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(RowError) as error:
        question(row)
    assert error.value.problem == problem
