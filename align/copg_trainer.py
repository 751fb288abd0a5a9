"""CoPG: scored completions of the data, or samples of the policy that a reward scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .card import Paper
from .copg_config import CoPGConfig
from .data import PROMPTS, normalise
from .sampling import Sampling, stops
from .scoring import RewardFunction, judge, spoken
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
        reward: `reward(prompts, completions, **columns) -> list[float]`, as in TRL. Scores the
            data's completions before training, if it has no scores; online, the samples.
        **others: Of `PreferenceTrainer`.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        args: CoPGConfig,
        *,
        reward: RewardFunction | None = None,
        **others: Any,
    ) -> None:
        if args.online and reward is None:
            raise ValueError(
                "online samples need a reward, got none. Pass one, or set online: false."
            )
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
        batch = best_first(batch, self._judged(batch, inputs["rows"]))
        ends = torch.tensor([ids[-1] for ids in batch.flat]).view(len(batch), batch.k)
        clipped = ~torch.isin(ends, torch.tensor(sampling.stops))
        inputs["batch"] = batch
        inputs["told"] = {"completions/clipped": clipped.float().mean(-1)}

    def _judged(self, batch: Batch, rows: list[Any]) -> Tensor:
        reward: Any = self.sets.reward
        decode = self.sets.tokenizer.decode
        said = [
            spoken(
                [decode(ids, skip_special_tokens=True) for ids in group],
                normalise(row, PROMPTS)["prompt"],
            )
            for row, group in zip(rows, batch.completions, strict=True)
        ]
        return torch.tensor(judge(reward, rows, said))

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
