"""Rows of data as a reward is asked about them: a prompt with one, two or k completions.

Pairs are in any format that training knows; several completions are `prompt` and the list
`completions`; one is `prompt` and `completion`, as in TRL. Scores stand beside them: `score_chosen`
and `score_rejected`, `scores`, or `score`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..data.formats import normalise
from ..data.messages import described, read_side, says_something
from ..data.messages import flat as flat_message
from ..data.problems import RowError
from .column import ColumnReward
from .reward import Reward, RewardError, Text

LAYOUTS = "prompt, chosen and rejected; prompt and completions; or prompt and completion"
READ = ("images", "tools", "chat_template_kwargs")
ANSWERS = ("chosen", "rejected", "completions", "completion")


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
    others = {name: value for name, value in row.items() if name not in ("prompt", *ANSWERS)}
    if row.get("chosen") is not None or row.get("rejected") is not None:
        normal = normalise(row)
        read: dict[str, Any] = {name: normal[name] for name in READ if name in normal}
        sides = [normal["chosen"], normal["rejected"]]
        return Question(normal["prompt"], sides, {**others, **read}, "pair")
    if row.get("completions") is not None:
        return _asked(row, row["completions"], others, "group")
    if row.get("completion") is not None:
        return _asked(row, [row["completion"]], others, "single")
    found = ", ".join(name for name, value in row.items() if value is not None)
    raise RowError("unknown-format", f"a row to score has {LAYOUTS}; this one has {found}")


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


def _asked(row: Mapping[str, Any], completions: Any, others: Any, layout: str) -> Question:
    if not isinstance(completions, Sequence) or isinstance(completions, str) or not completions:
        raise RowError("wrong-type", f"completions is {described(completions)}, not a list of some")
    if row.get("prompt") is None:
        raise RowError("missing-prompt", "there is no column prompt")
    prompt = _side(row["prompt"], "prompt")
    sides = [_side(value, f"completion {index}") for index, value in enumerate(completions)]
    if any(type(side) is not type(prompt) for side in sides):
        raise RowError("wrong-type", "the prompt is text and a completion messages, or otherwise")
    return Question(prompt, sides, others, layout)


def _side(value: Any, name: str) -> Text:
    side = read_side(value, name)
    if not says_something(side):
        raise RowError(
            "empty-completion" if name != "prompt" else "missing-prompt", f"{name} is empty"
        )
    return side if isinstance(side, str) else [flat_message(message) for message in side]
