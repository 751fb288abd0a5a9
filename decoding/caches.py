"""Stack the caches of several branches along the batch, so that one forward serves them all.

Keys and values are padded on the left to the longest branch; convolution and recurrent states have
no length and are simply stacked. Each layer stays on its own device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import (
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionAndStaticFullAttentionLayer,
    LinearAttentionAndStaticSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
    StaticCache,
    StaticLayer,
    StaticSlidingWindowLayer,
)

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

# Matched exactly: subclasses such as quantized and indexed layers hold more than keys and values.
MERGEABLE = frozenset(
    {
        DummyLayer,
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionLayer,
        LinearAttentionAndFullAttentionLayer,
        LinearAttentionAndSlidingWindowAttentionLayer,
        LinearAttentionAndStaticFullAttentionLayer,
        LinearAttentionAndStaticSlidingWindowAttentionLayer,
        StaticLayer,
        StaticSlidingWindowLayer,
    }
)


def unmergeable(cache: Cache) -> str | None:
    """Name what keeps this cache from being stacked, or return None."""
    if getattr(cache, "offloading", False):
        return "an offloaded cache"
    if not hasattr(cache, "layers"):
        return type(cache).__name__
    odd = sorted({type(layer).__name__ for layer in cache.layers if type(layer) not in MERGEABLE})
    return ", ".join(odd) or None


def has_attention(cache: Cache) -> bool:
    """Whether some layer keeps keys and values, so that positions matter."""
    return any(isinstance(layer, CacheLayerMixin) for layer in cache.layers)


def merged(
    caches: Sequence[Cache], lengths: Sequence[int], fresh: Callable[[int], StaticCache]
) -> Cache:
    """Stack caches of several branches.

    Args:
        caches: One a branch, of the same layers; the first is taken over, don't use it again.
        lengths: How many tokens each has read.
        fresh: Makes an empty static cache that starts with the given number of tokens.

    Returns:
        A cache with the rows of all, in order, as long as the longest.
    """
    first, longest = caches[0], max(lengths)
    target = fresh(longest) if isinstance(first, StaticCache) else first
    for index, layer in enumerate(target.layers):
        sources = [cache.layers[index] for cache in caches]
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            _stack_states(layer, sources)
        if isinstance(layer, StaticLayer):
            _fill_static(layer, sources, lengths)
        elif isinstance(layer, DynamicLayer):
            _stack_dynamic(layer, sources, longest)
    return target


def _stack_dynamic(layer: DynamicLayer, sources: Sequence[Any], longest: int) -> None:
    if not layer.is_initialized:
        return
    layer.keys = _stacked([source.keys for source in sources])
    layer.values = _stacked([source.values for source in sources])
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = longest


def _fill_static(layer: StaticLayer, sources: Sequence[Any], lengths: Sequence[int]) -> None:
    if not sources[0].is_initialized:
        return
    held = [min(n, source.max_cache_len) for source, n in zip(sources, lengths, strict=True)]
    layer.update(
        _stacked([s.keys[:, :, :n] for s, n in zip(sources, held, strict=True)]),
        _stacked([s.values[:, :, :n] for s, n in zip(sources, held, strict=True)]),
    )
    if isinstance(layer, StaticSlidingWindowLayer):
        layer.cumulative_length_int = max(lengths)


def _stack_states(layer: LinearAttentionCacheLayerMixin, sources: Sequence[Any]) -> None:
    first = sources[0]
    for name in ("conv", "recurrent"):
        states, initialized = f"{name}_states", f"is_{name}_states_initialized"
        for i in range(first.number_of_states):
            if getattr(first, initialized)[i]:
                getattr(layer, states)[i] = torch.cat([getattr(s, states)[i] for s in sources])
                getattr(layer, initialized)[i] = True
    layer.has_previous_state = dict(first.has_previous_state)
    layer.conv_kernel_size = dict(first.conv_kernel_size)
    layer.dtype, layer.device = first.dtype, first.device


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    longest = max(part.shape[-2] for part in parts)
    return torch.cat([F.pad(part, (0, 0, longest - part.shape[-2], 0)) for part in parts])
