"""The part of a trainer that draws completions from the policy it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .sampling import Sampling, stops
from .sets import Sets

CLIPPED_UPDATES = 5
"""Updates at the beginning in which no sample ends, before that is told."""


class Online:
    """Mixed into a `PreferenceTrainer`, before it."""

    args: Any
    accelerator: Any
    model: Any
    state: Any
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool
    sets: Sets
    _warn: Any
    _all_clipped = True

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        if self.args.draws:
            self._sample(inputs, f"update {self.state.global_step}")
            self._tell_endless(inputs["told"]["completions/clipped"])
        stepped: Tensor = super().training_step(  # type: ignore[misc]
            model, inputs, num_items_in_batch
        )
        return stepped

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *others: Any, **options: Any
    ) -> tuple[None, None, None]:
        """Measure a batch of an evaluation, whose samples' noise is the same each time."""
        if self.args.draws:
            self._sample(inputs, "evaluation")
        measured: tuple[None, None, None] = super().prediction_step(  # type: ignore[misc]
            model, inputs, *others, **options
        )
        return measured

    def _sample(self, inputs: dict[str, Any], moment: str) -> None:
        """Put samples into a batch, and what is told of them beside it."""
        raise NotImplementedError

    def _drawn(self, batch: Batch, moment: str) -> tuple[Batch, dict[str, Tensor]]:
        """Draw completions of a batch's prompts.

        Args:
            batch: Its own completions aren't read.
            moment: What the noise belongs to.

        Returns:
            The prompts with samples, and what is told of each prompt's.
        """
        sampling = self._sampling()
        with self.accelerator.autocast():
            drawn = sampling(self.model, batch, moment)
        ends = torch.tensor([ids[-1] for ids in drawn.flat]).view(len(drawn), drawn.k)
        clipped = ~torch.isin(ends, torch.tensor(sampling.stops))
        return drawn, {"completions/clipped": clipped.float().mean(-1)}

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

    def _tell_endless(self, clipped: Tensor) -> None:
        """Warn once of a policy that never ends a text."""
        self._all_clipped = self._all_clipped and bool((clipped == 1).all())
        if self._all_clipped and self.state.global_step == CLIPPED_UPDATES - 1:
            self._all_clipped = False
            self._warn(
                f"no sample of the first {CLIPPED_UPDATES} updates came to an end within "
                f"max_completion_length {self.args.max_completion_length}. Raise it; or the model "
                "doesn't know how to end: an instruct model with its chat template does."
            )

    def _refuse_split_weights(self) -> None:
        if self.args.draws and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError(
                "online sampling needs whole weights on each process, got FSDP or DeepSpeed. Train "
                "with DDP, or on data alone."
            )
