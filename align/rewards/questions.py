"""Rows of data as a reward is asked about them: a prompt with one, two or k completions.

Pairs are in any format that training knows; several completions are `prompt` and the list
`completions`; one is `prompt` and `completion`, as in TRL. Scores stand beside them: `score_chosen`
and `score_rejected`, `scores`, or `score`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..data.formats import normalise
from ..data.groups import answers
from ..data.needs import JUDGED
from ..data.problems import RowError
from .column import ColumnReward
from .reward import Reward, RewardError, Text

LAYOUTS = "prompt, chosen and rejected; prompt and completions; or prompt and completion"
READ = ("images", "tools", "chat_template_kwargs")
LAYOUT_OF = {"chosen": "pair", "rejected": "pair", "completions": "group", "completion": "single"}
ANSWERS = tuple(LAYOUT_OF)
ROWS = 32  # that a reward is asked about at once; ours


@dataclass(frozen=True)
class Question:
    """What a reward is asked about one row.

    Attributes:
        prompt: Text or messages.
        completions: Of the same kind.
        columns: The row's other columns.
        layout: pair, group or single.
    """

    prompt: Text
    completions: Sequence[Text]
    columns: Mapping[str, Any]
    layout: str

    def scored(self, scores: Sequence[float], name: str = "score") -> dict[str, Any]:
        """Columns that hold the completions' scores."""
        if self.layout == "group":
            return {f"{name}s": list(scores)}
        return dict(zip(score_columns(self.layout, name), scores, strict=True))


def score_columns(layout: str, name: str) -> list[str]:
    """Names of the columns of scores."""
    ends = {"pair": ("_chosen", "_rejected"), "group": ("s",), "single": ("",)}
    return [f"{name}{end}" for end in ends[layout]]


def question(row: Mapping[str, Any]) -> Question:
    """Read a row.

    Raises:
        RowError: It can't be; it names the problem.
    """
    there = [name for name in ANSWERS if row.get(name) is not None]
    if not there:
        found = ", ".join(name for name, value in row.items() if value is not None)
        raise RowError("unknown-format", f"a row to score has {LAYOUTS}; this one has {found}")
    normal = normalise(row, JUDGED)
    columns = {name: row[name] for name in given(row)}
    columns |= {name: normal[name] for name in READ if name in normal}
    layout = LAYOUT_OF[there[0]]
    return Question(normal["prompt"], list(answers(normal).values()), columns, layout)


def given(columns: Collection[str]) -> list[str]:
    """Columns of the data that a reward is given, beside prompts and completions."""
    return [name for name in columns if name not in ("prompt", *ANSWERS)]


@dataclass(frozen=True)
class Flat:
    """What some rows are to a reward: one entry for each completion.

    Attributes:
        rows: Index of the row.
        prompts: Of the row.
        completions: One after the other.
        columns: Of the rows, each value as often as its row has completions.
    """

    rows: Sequence[int]
    prompts: Sequence[Text]
    completions: Sequence[Text]
    columns: Mapping[str, Sequence[Any]]


def flattened(questions: Sequence[Question], reward: Reward) -> Flat:
    """Lay the completions of some rows one after the other, as the reward takes them."""
    asked = [(i, place) for i, one in enumerate(questions) for place in range(len(one.completions))]
    names = dict.fromkeys(name for one in questions for name in one.columns)
    columns = {name: [questions[i].columns.get(name) for i, _ in asked] for name in names}
    if isinstance(reward, ColumnReward):
        standing = [_standing(questions[i], place, reward.name) for i, place in asked]
        columns[reward.name] = standing
    return Flat(
        [i for i, _ in asked],
        [questions[i].prompt for i, _ in asked],
        [questions[i].completions[place] for i, place in asked],
        columns,
    )


def ask(reward: Reward, questions: Sequence[Question]) -> list[list[float]]:
    """Ask a reward about some rows at once.

    Returns:
        The scores of each row's completions.

    Raises:
        RewardError: With the index of the row, not of the completion.
    """
    flat = flattened(questions, reward)
    with named_rows(flat):
        scores = iter(reward(flat.prompts, flat.completions, **flat.columns))
    return [[next(scores) for _ in one.completions] for one in questions]


def in_parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut rows into parts that a reward is asked about at once."""
    return (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))


def asked(
    reward: Reward, questions: Sequence[Question], rows: Sequence[int], name: str = ""
) -> Iterator[tuple[int, list[float]]]:
    """Ask a reward about some rows of the data, part by part.

    Args:
        reward: Who judges.
        questions: One for each row.
        rows: Their indices in the data.
        name: What complaints call the data.

    Yields:
        Index and scores of each row.

    Raises:
        ValueError: A completion has no reward; names the row of the data.
    """
    for part in in_parts(range(len(questions))):
        where = [rows[index] for index in part]
        with named_data(where, name):
            scores = ask(reward, [questions[index] for index in part])
        yield from zip(where, scores, strict=True)


@contextmanager
def named_data(rows: Sequence[int], name: str = "") -> Iterator[None]:
    """Name the row of the data that has no reward.

    Raises:
        ValueError: With its index in the data.
    """
    try:
        yield
    except RewardError as error:
        where = f"{name}, row {rows[error.index]}" if name else f"row {rows[error.index]}"
        raise ValueError(f"{where} (the first is row 0): {error.found}") from error


@contextmanager
def named_rows(flat: Flat) -> Iterator[None]:
    """Name the row where a completion has no reward.

    Raises:
        RewardError: With the index of the row.
    """
    try:
        yield
    except RewardError as error:
        raise RewardError(flat.rows[error.index], error.found) from error


def _standing(one: Question, place: int, name: str) -> Any:
    """A score that the data has already."""
    columns = score_columns(one.layout, name)
    if one.layout != "group":
        return one.columns.get(columns[place])
    values = one.columns.get(columns[0])
    if not isinstance(values, Sequence) or len(values) != len(one.completions):
        return None
    return values[place]
