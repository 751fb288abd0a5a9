"""Scores of the data's completions by a reward, computed before training reads them."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, IterableDataset

from .data import RowError
from .data.groups import PAIR_SCORES
from .rewards import ColumnReward, Question, Reward, question
from .rewards.questions import asked, in_parts

NAME = "score"
COLUMNS = (*PAIR_SCORES, "scores", "score")


def with_scores(dataset: Dataset | IterableDataset, reward: Reward, name: str) -> Dataset:
    """Add the columns of scores that training reads.

    Args:
        dataset: Pairs or groups. Rows that can't be read get no scores; checking them comes later.
        reward: Is called on some rows at a time, in their order.
        name: What complaints call the data.

    Raises:
        ValueError: The data is a stream, has scores, or a completion has no reward.
    """
    if reward == ColumnReward(NAME):
        return dataset
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"a reward scores data before training, but {name} is a stream. Read it without "
            "streaming, or let `contralign data score` write the scores."
        )
    if there := [column for column in COLUMNS if column in dataset.column_names]:
        raise ValueError(
            f"scores come from a reward or from the data, but {name} has {there[0]} and a reward "
            "is named. Leave out the reward, or the column."
        )
    rows: list[dict[str, Any]] = [{} for _ in range(len(dataset))]
    for part in in_parts(range(len(dataset))):
        questions = {i: one for i in part if (one := _question(dataset[i])) is not None}
        for i, scores in asked(reward, list(questions.values()), list(questions), name):
            rows[i] = questions[i].scored(scores, NAME)
    for column in COLUMNS:
        values = [row.get(column) for row in rows]
        if any(value is not None for value in values):
            dataset = dataset.add_column(column, values)
    return dataset


def _question(row: dict[str, Any]) -> Question | None:
    try:
        return question(row)
    except RowError:
        return None
