"""Scores of completions by a reward: a function with the signature of TRL's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset
from trl.data_utils import is_conversational

from .data import SCORED, RowError, normalise
from .data.groups import PAIR_SCORES, SIDES, answers

RewardFunction: TypeAlias = Callable[..., Sequence[float]]
"""`reward(prompts, completions, **columns)`: one finite number for each completion."""

ROWS = 32  # that a reward is asked about at once; ours
ASKED = ("prompt", "chosen", "rejected", "completion", "completions")
COLUMNS = (*PAIR_SCORES, "scores", "score")
UNSCORED = replace(SCORED, scores=False)


def with_scores(dataset: Dataset | IterableDataset, reward: RewardFunction, name: str) -> Dataset:
    """Add the columns of scores that training reads.

    Args:
        dataset: Pairs or groups. Rows that can't be read get no scores; checking them comes later.
        reward: Is called on some rows at a time, in their order.
        name: What complaints call the data.

    Raises:
        ValueError: The data is a stream, has scores, or the reward doesn't give numbers.
    """
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"a reward scores data before training, but {name} is a stream. Read it without "
            "streaming, or let `contralign data score` write the scores."
        )
    if there := [column for column in COLUMNS if column in dataset.column_names]:
        raise ValueError(
            f"scores come from a reward or from the data, but {name} has {there[0]} and a reward "
            "was passed. Leave one of them out."
        )
    found: dict[str, list[Any]] = {column: [] for column in COLUMNS}
    for start in range(0, len(dataset), ROWS):
        rows = list(dataset.select(range(start, min(start + ROWS, len(dataset)))))
        said = [_answers(row) for row in rows]
        for row, one, scores in zip(rows, said, judge(reward, rows, said), strict=True):
            for column, value in _columns(row, one, scores).items():
                found[column].append(value)
    for column, values in found.items():
        if any(value is not None for value in values):
            dataset = dataset.add_column(column, values)
    return dataset


def judge(
    reward: RewardFunction,
    rows: Sequence[Mapping[str, Any]],
    completions: Sequence[Mapping[str, Any]],
) -> list[list[float]]:
    """Ask a reward about the completions of some rows.

    Args:
        reward: To ask.
        rows: As they are in the data; columns beside prompt and completions are passed on.
        completions: The prompt of each row and its completions, by name.

    Returns:
        Scores of each row's completions.

    Raises:
        ValueError: The reward doesn't give one finite number for each.
    """
    asked = [
        (row, one["prompt"], side)
        for row, one in zip(rows, completions, strict=True)
        for side in answers(dict(one)).values()
    ]
    if not asked:
        return [[] for _ in rows]
    names = [name for name in rows[0] if name not in ASKED]
    given = list(
        reward(
            prompts=[prompt for _, prompt, _ in asked],
            completions=[side for _, _, side in asked],
            **{name: [row.get(name) for row, _, _ in asked] for name in names},
        )
    )
    scores = iter(_finite(given, len(asked)))
    return [[next(scores) for _ in answers(dict(one))] for one in completions]


def spoken(texts: Sequence[str], prompt: Any) -> dict[str, Any]:
    """Completions of a prompt as a reward reads them: messages where the prompt is some."""
    if not is_conversational({"prompt": prompt}):
        said: list[Any] = list(texts)
    else:
        said = [[{"role": "assistant", "content": text}] for text in texts]
    return {"prompt": prompt, **{f"completions[{i}]": side for i, side in enumerate(said)}}


def _answers(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        normal = normalise(row, UNSCORED)
    except RowError:
        return {"prompt": None}
    return {"prompt": normal["prompt"], **answers(normal)}


def _columns(
    row: Mapping[str, Any], said: Mapping[str, Any], scores: list[float]
) -> dict[str, Any]:
    """The columns that training reads the scores of a row from."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    if set(SIDES) <= said.keys():
        return {**found, **dict(zip(PAIR_SCORES, scores, strict=True))}
    if row.get("completions") is None:
        return {**found, "score": next(iter(scores), None)}
    return {**found, "scores": scores or None}


def _finite(given: Sequence[Any], count: int) -> list[float]:
    if len(given) != count:
        raise ValueError(
            f"a reward gives one number for each completion, got {len(given)} for {count}."
        )
    for value in given:
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"a reward gives finite numbers, got {value!r}. Mend the function.")
    return [float(value) for value in given]
