"""Scores of the data's completions by a reward, computed before training reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset, IterableDataset

from .data import RowError
from .data.groups import PAIR_SCORES
from .data.needs import Needs
from .rewards import ColumnReward, Question, Reward, as_reward, called, question
from .rewards.questions import LAYOUT_OF, asked, in_parts, score_columns

NAME = "score"
COLUMNS = (*PAIR_SCORES, "scores", "score")


def to_be_read(
    given: Reward | Callable[..., Any] | None, needs: Needs, method: str
) -> Reward | None:
    """Make a reward of what a trainer was given, and refuse one whose scores nobody reads.

    Args:
        given: A reward, or a function with the signature of TRL's.
        needs: What the method reads.
        method: Its acronym.

    Raises:
        ValueError: With the way out.
    """
    if given is None:
        return None
    reward = as_reward(given)
    if needs.scores or needs.completions == "none":
        return reward
    ranks = " CPL ranks groups by a column scores, which `contralign data score` writes."
    raise ValueError(
        f"a reward is for a method that reads scores, which {method} doesn't, got "
        f"{called(reward)}. Leave it out, or train with CoPG.{ranks if needs.ordered else ''}"
    )


def replaced(columns: Sequence[str], reward: Reward) -> list[str]:
    """Columns of the data whose scores a reward's take the place of."""
    written = {
        score
        for name in columns
        if name in LAYOUT_OF
        for score in score_columns(LAYOUT_OF[name], NAME)
    }
    return [] if reward == ColumnReward(NAME) else [name for name in columns if name in written]


def with_scores(dataset: Dataset | IterableDataset, reward: Reward, name: str) -> Dataset:
    """Add the columns of scores that training reads, in the place of those that are there.

    Args:
        dataset: Pairs or groups. Rows that can't be read get no scores; checking them comes later.
        reward: Is called on some rows at a time, in their order.
        name: What complaints call the data.

    Raises:
        ValueError: The data is a stream, or a completion has no reward.
    """
    if reward == ColumnReward(NAME):
        return dataset
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"a reward scores data before training, but {name} is a stream. Read it without "
            "streaming, or let `contralign data score` write the scores."
        )
    rows: list[dict[str, Any]] = [{} for _ in range(len(dataset))]
    for part in in_parts(range(len(dataset))):
        questions = {i: one for i in part if (one := _question(dataset[i])) is not None}
        for i, scores in asked(reward, list(questions.values()), list(questions), name):
            rows[i] = questions[i].scored(scores, NAME)
    dataset = dataset.remove_columns(replaced(dataset.column_names, reward))
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
