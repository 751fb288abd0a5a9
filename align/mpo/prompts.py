"""The prompts of difficult pairs as TRL's online trainer takes them, and the reward as it asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from ..data import PROMPTS, prepare
from ..data.formats import excerpt
from ..data.images import open_image
from ..rewards import ColumnReward, Question, Reward, RewardError, question
from ..rewards.questions import ask
from ..stop import TrainingError
from .config import MPOConfig, OnlineConfig

UNREAD = ("tools", "chat_template_kwargs")


def check_reward(reward: Any) -> None:
    """Refuse a reward that can't score samples.

    Raises:
        ValueError: With the way out.
    """
    if reward is None:
        raise ValueError(
            "MPO splits pairs by a reward, and trains on samples that it scores, got none. Name a "
            "function (reward_funcs) or a model (reward_model_name_or_path)."
        )
    if isinstance(reward, ColumnReward):
        raise ValueError(
            f"a column scores the data's completions, not the samples of stage 2, got "
            f"reward_column {reward.name!r}. Name a function or a model; with scores alone, train "
            "with contralign train copg."
        )


@dataclass(frozen=True)
class Prompts:
    """What stage 2 trains on.

    Attributes:
        rows: Of the data, with an explicit prompt.
        reward: Scores samples.
        told: Lines about them, for the card.
    """

    rows: Dataset
    reward: Reward
    told: Sequence[str] = ()

    def question(self, index: int) -> Question:
        """A row as a reward is asked about it."""
        return question(self.rows[index])

    def dataset(self) -> Dataset:
        """Rows for TRL: the prompt, its images, and the row's number.

        They're made when they're read: a table would give each part of a message the keys of all.
        """
        numbers = Dataset.from_dict({"row": list(range(len(self.rows)))})
        return numbers.with_transform(self._looked_up)

    def lines(self, made: Mapping[str, str] | None = None) -> list[str]:
        """Lines about the data; see `Sets`."""
        return list(self.told)

    def _looked_up(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        found = [self.question(index) for index in batch["row"]]
        columns: dict[str, list[Any]] = {
            "row": list(batch["row"]),
            "prompt": [one.prompt for one in found],
        }
        if any("images" in one.columns for one in found):
            images = [one.columns.get("images", ()) for one in found]
            columns["images"] = [[open_image(image) for image in some] for some in images]
        return columns


@dataclass(frozen=True)
class Judge:
    """A reward with the signature of TRL's reward functions.

    Attributes:
        reward: Who judges.
        prompts: What the samples are for.
        moment: Says when, for complaints.
    """

    reward: Reward
    prompts: Prompts
    moment: Callable[[], str]

    @property
    def __name__(self) -> str:
        """What TRL's log calls it."""
        return str(getattr(self.reward, "path", getattr(self.reward, "name", "model"))).rpartition(
            "."
        )[2]

    def __call__(
        self, completions: Sequence[Any], row: Sequence[int], **others: Any
    ) -> list[float]:
        """Judge samples; what TRL passes beside the row's number is left aside.

        Raises:
            TrainingError: One has no reward; names its prompt.
        """
        of = {index: self.prompts.question(index) for index in set(row)}
        asked = [
            Question(of[index].prompt, [said], of[index].columns, "group")
            for index, said in zip(row, completions, strict=True)
        ]
        try:
            return [score for (score,) in ask(self.reward, asked)]
        except RewardError as error:
            prompt = excerpt(self.prompts.rows[row[error.index]])
            raise TrainingError(
                f"{self.moment()}, a sample for {prompt!r}: {error.found}"
            ) from error


def fitting_prompts(
    rows: Dataset, processor: Any, config: MPOConfig, online: OnlineConfig
) -> Dataset:
    """Check the prompts of difficult pairs: each has room behind it for the longest sample.

    Args:
        rows: The difficult pairs.
        processor: Tokenizer or processor.
        config: The options of the whole run.
        online: Those of stage 2.

    Returns:
        Those that can be trained on.

    Raises:
        ValueError: Some can't, or there are too few for one update.
    """
    for name in UNREAD:
        if name in rows.column_names and any(rows[name]):
            raise ValueError(
                f"stage 2 can't pass {name} of a row to the chat template, and difficult.jsonl has "
                "some. Leave the column out."
            )
    fitting, _ = prepare(
        rows,
        processor,
        config.max_length,
        config.on_problem,
        name="the difficult data",
        num_proc=config.dataset_num_proc,
        needs=replace(PROMPTS, room=online.max_completion_length),
    )
    needed = online.generation_batch_size // online.num_generations
    if len(fitting) < needed:
        raise ValueError(
            f"stage 2 samples for {needed} prompts at once, got {len(fitting)} difficult ones. "
            "Lower per_device_train_batch_size or gradient_accumulation_steps of stage2 "
            "(together they are completions), raise num_generations, or raise gamma."
        )
    return fitting


def unfitting(count: int) -> list[str]:
    """What the card tells of difficult prompts that stage 2 left out."""
    if not count:
        return []
    return [f"stage 2 left out {count} of the difficult prompts: no room behind them for a sample"]
