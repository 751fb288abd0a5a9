"""Samples by transformers' continuous batching: one that has ended makes room for the next token.

The noise is that of `generated`, and so are the samples but for rounding. Attention reads keys and
values from pages, in one row without padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)

from .batch import Batch
from .sampling import Sampling, inverse_transform, own_seed
from .scratch import merged
from .support import ATTENTION, language_model, refuse_generator

PAGE = 16
"""Tokens of one page of keys and values; small, as no kernel of pages is used without flash."""
READ = ("sdpa", "eager")
STEP = 512
"""Tokens of one forward, at least."""


def check_continuous(model: Any) -> None:
    """Refuse a model that can't read pages.

    Raises:
        ValueError: With the reason and the way out.
    """
    refuse_generator(model, "continuous batching", "use_transformers_continuous_batching")
    inner = language_model(model)
    layers = set(getattr(inner.config, "layer_types", None) or ()) - ATTENTION
    kind = inner.config._attn_implementation
    flash = "flash" in kind and "flex" not in kind
    reason = None
    if not inner.is_backend_compatible():
        reason = "has attention of its own"
    elif not (flash or kind in READ):
        reason = f"was loaded with attn_implementation: {kind} (there are {', '.join(READ)}, flash)"
    elif getattr(inner.config, "attn_logit_softcapping", None) and not flash:
        reason = "caps attention's logits, which only flash attention does on pages"
    elif layers:
        reason = f"has layers without attention ({', '.join(sorted(layers))})"
    if reason:
        raise ValueError(
            f"continuous batching keeps attention's keys and values in pages, but "
            f"{type(inner).__name__} {reason}. Set use_transformers_continuous_batching: false."
        )


@torch.no_grad()
def continuous(sampling: Sampling, model: Any, batch: Batch, moment: str) -> list[list[int]]:
    """Draw with transformers' continuous batching; see `Sampling.__call__`.

    There is room for all samples from the beginning; with flash attention installed, a model in
    half precision is read with it.

    Raises:
        RuntimeError: A sample failed.
    """
    inner = language_model(model)
    prompts = [list(prompt) for prompt in batch.prompts for _ in range(sampling.k)]
    pages = [ceil((len(prompt) + sampling.longest) / PAGE) for prompt in prompts]
    config = ContinuousBatchingConfig(
        page_size=PAGE,
        # Pages are given away by several at once, one for each layer at most.
        num_blocks=sum(pages) + inner.config.num_hidden_layers,
        max_batch_tokens=max(STEP, len(prompts)),
        max_requests_per_batch=min(len(prompts), STEP),
        use_async_batching=False,
        # Captured anew for each batch, they'd cost more than they save.
        use_cuda_graph=False,
        # Flash attention's own way through pages takes none that are so small.
        max_blocks_per_request=0,
        auto_switch_to_flash=inner.dtype.itemsize < 4,
    )
    noise = sampling.noise(batch, moment).to(inner.device)
    keyed = KeyedNoise(noise, [len(prompt) for prompt in prompts], sampling.temperature)
    with merged(model), _own_attention(inner), own_seed(inner.device):
        manager: Any = inner.init_continuous_batching(sampling.config(), config)
        manager.logit_processor = ContinuousBatchingLogitsProcessorList([keyed])
        manager.logit_processor.tensors_required = 1
        # Its thread would look past the caller's autocast, and its errors would be lines in a log.
        steps = manager._create_batch_processor()
        for row, prompt in enumerate(prompts):
            manager.add_request(prompt, request_id=str(row))
        with _rounding(steps.cache):
            while steps.prepare_next_batch():
                steps._generation_step(inner)
                steps.update_batch()
    return _said(manager.output_router.output_queue, len(prompts))


class KeyedNoise(ContinuousBatchingLogitsProcessor):
    """`inverse_transform` where a forward's rows are of different requests and places.

    Args:
        uniform: In [0, 1); a row for each request.
        lengths: Of the requests' prompts.
        temperature: Above 0.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {}
    ignored_kwargs = ()

    def __init__(
        self, uniform: Float[Tensor, "rows tokens"], lengths: Sequence[int], temperature: float
    ) -> None:
        self._uniform, self._lengths, self._temperature = uniform, lengths, temperature

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """Fill the places of rows that are padding."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Int[Tensor, " requests"]:
        """Where in the noise each request's next token is decided."""
        states = [request.state for request in requests_with_new_token]
        return torch.tensor([self._place(state) for state in states], dtype=torch.int32)

    def _place(self, state: Any) -> int:
        row = int(state.request_id)
        # One that was put aside starts anew, and what it has said is then part of its prompt.
        said = len(state.initial_tokens) + len(state.generated_tokens) - self._lengths[row]
        return row * self._uniform.shape[1] + said

    def __call__(
        self, scores: Float[Tensor, "rows vocab"], tensor_arg: Int[Tensor, " places"]
    ) -> Float[Tensor, "rows vocab"]:
        places = tensor_arg[: len(scores)].long()
        return inverse_transform(scores, self._uniform.flatten()[places], self._temperature)


@contextmanager
def _rounding(cache: Any) -> Iterator[None]:
    """Let the cache take what autocast computes in another precision than the weights'."""
    update = cache.update

    def rounded(key_states: Tensor, value_states: Tensor, *given: Any, **named: Any) -> Any:
        states = {"key_states": key_states, "value_states": value_states}
        return update(*given, **{name: x.to(cache.dtype) for name, x in states.items()}, **named)

    cache.update = rounded
    try:
        yield
    finally:
        # Else it would hold itself, and its memory.
        del cache.update


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """Give the model its attention back, which the manager may change."""
    own = model.config._attn_implementation
    try:
        yield
    finally:
        if model.config._attn_implementation != own:
            model.set_attn_implementation(own)


def _said(results: Any, count: int) -> list[list[int]]:
    rows: dict[int, list[int]] = {}
    while not results.empty():
        result = results.get()
        if result.error is not None:
            raise RuntimeError(f"continuous batching failed on a sample: {result.error}")
        rows[int(result.request_id)] = result.generated_tokens
    if len(rows) != count:
        raise RuntimeError(f"continuous batching returned {len(rows)} of {count} samples.")
    return [rows[row] for row in range(count)]
