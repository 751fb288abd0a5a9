"""The part of a trainer that draws completions from the policy it trains."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .continuous import check_continuous, continuous
from .sampling import Draw, Sampling, generated, own_seed, stops
from .scratch import Lagged
from .sets import Sets
from .vllm import VLLM

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
    _lag_is_told = False
    _lag = 0
    _vllm: VLLM | None = None

    def train(self, *given: Any, **named: Any) -> Any:
        """Train; see transformers."""
        self._forget()
        return super().train(*given, **named)  # type: ignore[misc]

    def _load_best_model(self) -> None:
        super()._load_best_model()  # type: ignore[misc]
        self._forget()

    def _forget(self) -> None:
        """Let vLLM get weights anew: these changed without an update."""
        if self._vllm is not None:
            self._vllm.forget()

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        if self.args.draws:
            with self._lagged.at(self.state.global_step) as lag:
                self._lag = lag
                try:
                    self._sample(inputs, f"update {self.state.global_step}")
                finally:
                    self._lag = 0
            self._tell_lag(inputs["told"], lag)
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
            drawn = sampling(self.model, batch, moment, self._draw())
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

    def _draw(self) -> Draw:
        if self._vllm is not None:
            return self._vllm.at(self.state.global_step - self._lag)
        return continuous if self.args.use_transformers_continuous_batching else generated

    @cached_property
    def _lagged(self) -> Lagged:
        return Lagged(self.model, self.args.refresh_every)

    def _syncs(self) -> list[Any]:
        kept: list[Any] = super()._syncs()  # type: ignore[misc]
        return [*kept, self._lagged] if self.args.draws else kept

    def _tell_lag(self, told: dict[str, Tensor], lag: int) -> None:
        """Log how old the policy is that was sampled, where it may be; warn once."""
        every = self.args.refresh_every
        if every == 1:
            return
        told["samples/lag"] = torch.full_like(told["completions/clipped"], lag)
        if not self._lag_is_told:
            self._lag_is_told = True
            self._warn(
                f"refresh_every is {every}: samples are of a policy up to {every - 1} updates old, "
                "which biases what is learned from them. refresh_every: 1 has no lag."
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

    def _prepare_sampling(self) -> None:
        """Refuse what can't be sampled, and start vLLM.

        Raises:
            ValueError: With the way out.
        """
        args = self.args
        if not args.draws:
            return
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "online sampling needs whole weights on each process, got FSDP or DeepSpeed. Train "
                "with DDP, or on data alone."
            )
        if args.use_transformers_continuous_batching:
            check_continuous(self.model)
        if args.use_vllm:
            # On a GPU its noise is that of its seed, another one in each process.
            with own_seed(torch.device("cpu")):
                self._vllm = self._engine_of_vllm()

    def _engine_of_vllm(self) -> VLLM:
        args = self.args
        return VLLM(
            self.model,
            self.accelerator,
            self.sets.tokenizer,
            self._sampling(),
            args,
            requests=args.per_device_train_batch_size * args.num_generations,
            longest=args.max_length,
            remote=args.trust_remote_code,
        )
