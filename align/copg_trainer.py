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
from .rewards import ColumnReward, Question, Reward, RewardError
from .rewards.questions import ask, given
from .sampling import Sampling, stops
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


class CoPGTrainer(PreferenceTrainer):
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
        if args.online and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError(
                "online sampling needs whole weights on each process, got FSDP or DeepSpeed. Train "
                "with DDP, or on scored data."
            )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        self._sample(inputs, f"update {self.state.global_step}")
        return super().training_step(model, inputs, num_items_in_batch)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *others: Any, **options: Any
    ) -> tuple[None, None, None]:
        """Measure a batch of an evaluation, whose samples' noise is the same each time."""
        self._sample(inputs, "evaluation")
        return super().prediction_step(model, inputs, *others, **options)

    def _sample(self, inputs: dict[str, Any], moment: str) -> None:
        """Online, put scored samples in the place of the prompts, best first."""
        if not self.args.online:
            return
        sampling = self._sampling()
        with self.accelerator.autocast():
            batch = sampling(self.model, inputs["batch"], moment)
        batch = best_first(batch, self._judged(batch, inputs["rows"], moment))
        ends = torch.tensor([ids[-1] for ids in batch.flat]).view(len(batch), batch.k)
        clipped = ~torch.isin(ends, torch.tensor(sampling.stops))
        inputs["batch"] = batch
        inputs["told"] = {"completions/clipped": clipped.float().mean(-1)}

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

    def _sampling(self) -> Sampling:
        args, tokenizer = self.args, self.sets.tokenizer
        return Sampling(
            k=args.num_generations,
            longest=args.max_completion_length,
            temperature=args.temperature,
            stops=stops(self.model, tokenizer),
            pad=tokenizer.pad_token_id,
            seed=args.seed,
        )

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
