"""CoPG: scored completions of the data, or samples of the policy that a reward scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .card import Paper
from .copg_config import CoPGConfig
from .data import PROMPTS, normalise
from .data.formats import excerpt
from .online import Online
from .rewards import ColumnReward, Question, Reward, RewardError
from .rewards.questions import ask, given
from .stop import TrainingError
from .trainer import PreferenceTrainer

PAPER = Paper(
    method="CoPG",
    title="Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a "
    "supervised-friendly fashion",
    authors="Flet-Berliac et al.",
    year=2024,
    arxiv="2406.19185",
)


class CoPGTrainer(Online, PreferenceTrainer):
    """Trains on scored pairs or groups; online, on samples of its own.

    Args:
        model: Hub id or folder, or a model.
        args: The options.
        reward: A `Reward`, or a function `f(prompts, completions, **columns) -> list[float]`, as in
            TRL. Scores the data's completions before training, if it has no scores; online, the
            samples.
        **others: Of `PreferenceTrainer`.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        args: CoPGConfig,
        *,
        reward: Reward | Callable[..., Any] | None = None,
        **others: Any,
    ) -> None:
        check_reward(args, reward)
        super().__init__(model, args, loss=args.loss(), paper=PAPER, reward=reward, **others)
        self._prepare_sampling()

    def _sample(self, inputs: dict[str, Any], moment: str) -> None:
        """Put scored samples in the place of the prompts, best first."""
        batch, told = self._drawn(inputs["batch"], moment)
        inputs["batch"] = best_first(batch, self._judged(batch, inputs["rows"], moment))
        inputs["told"] = told

    def _judged(self, batch: Batch, rows: list[Any], moment: str) -> Tensor:
        reward: Any = self.sets.reward
        decode = self.sets.tokenizer.decode
        questions = [
            sampled(row, [decode(ids, skip_special_tokens=True) for ids in group])
            for row, group in zip(rows, batch.completions, strict=True)
        ]
        try:
            return torch.tensor(ask(reward, questions))
        except RewardError as error:
            prompt = excerpt(rows[error.index])
            raise TrainingError(f"{moment}, a sample for {prompt!r}: {error.found}") from error

    def _may_lack_gradient(self) -> bool:
        return bool(self.args.online)


def best_first(batch: Batch, scores: Tensor) -> Batch:
    """Order each prompt's completions by their scores, and keep those."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    groups = zip(batch.completions, order.tolist(), strict=True)
    return replace(
        batch,
        completions=[[group[i] for i in places] for group, places in groups],
        columns={**batch.columns, "scores": scores.gather(-1, order)},
    )


def check_reward(config: CoPGConfig, reward: Any) -> None:
    """Refuse samples that nobody scores.

    Raises:
        ValueError: With the way out.
    """
    if not config.online:
        return
    if reward is None:
        raise ValueError(
            "online samples need a reward, got none. Name a function or a model as the reward, or "
            "set online: false."
        )
    if isinstance(reward, ColumnReward):
        raise ValueError(
            f"a column scores the data's completions, not samples, got reward_column "
            f"{reward.name!r} with online. Name a function or a model, or set online: false."
        )


def sampled(row: Mapping[str, Any], texts: Sequence[str]) -> Question:
    """What a reward is asked about samples: messages where the prompt is some.

    Args:
        row: Of the data; its columns are passed on.
        texts: The samples.
    """
    normal = normalise(row, PROMPTS)
    said: list[Any] = list(texts)
    if not isinstance(normal["prompt"], str):
        said = [[{"role": "assistant", "content": text}] for text in texts]
    return Question(normal["prompt"], said, {name: row[name] for name in given(row)}, "group")
