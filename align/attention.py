"""Attention in a packed row: each completion sees its prompt and itself, nothing else.

Registered with transformers' `AttentionInterface` and with no mask function of its own, so models
build no mask at all; they pass the layout through to each layer as they do any other option. On
CUDA it is one FlexAttention call a layer, elsewhere a fused call for each segment.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface
from transformers.integrations.flex_attention import flex_attention_forward

from .packing import Layout

NAME = "contralign_packed"


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads row size"],
    key: Float[Tensor, "1 groups row size"],
    value: Float[Tensor, "1 groups row values"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    packed_layout: Layout,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within each prompt and from each completion to its prompt and itself.

    Args:
        module: The layer, for its settings.
        query: As transformers passes it, after rotary embedding.
        key: The same, with as many heads as the model keeps.
        value: The same.
        attention_mask: None: the layout says it all.
        scaling: Of the products; None is one over the root of `size`.
        dropout: Of the attention weights.
        packed_layout: Of the row.
        sliding_window: How far back a token sees; None is all the way.
        softcap: Bound of the products.
        s_aux: Attention sinks, a logit for each head that takes probability and gives nothing.
        position_bias: Not supported.
        **kwargs: Of other implementations.

    Returns:
        `[1, row, heads, size]`, and no weights.

    Raises:
        NotImplementedError: The model needs something that the layout doesn't express.
    """
    if position_bias is not None or attention_mask is not None:
        raise NotImplementedError("a packed row takes no position bias and no attention mask.")
    _check_window(module, sliding_window)
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # autocast passes over masks that are no plain tensors
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    # Its kernels know no dropout and no smaller heads.
    if query.is_cuda and not dropout and query.shape[-1] >= 16:
        mask = _block_mask(packed_layout, sliding_window, query.device)
        output, _ = flex_attention_forward(
            module, query, key, value, mask, scaling, softcap, s_aux, dropout=dropout
        )
        return output, None
    outputs = []
    for prompt, completions in packed_layout.groups:
        for before, own in [((), prompt), *(((prompt,), piece) for piece in completions)]:
            if own.start == own.stop:
                continue
            queries = query[:, :, own]
            keys = torch.cat([key[:, :, where] for where in (*before, own)], 2)
            values = torch.cat([value[:, :, where] for where in (*before, own)], 2)
            if softcap is None and s_aux is None:
                outputs.append(_fused(queries, keys, values, scaling, dropout, sliding_window))
            else:
                outputs.append(
                    _explicit(
                        queries, keys, values, scaling, dropout, sliding_window, softcap, s_aux
                    )
                )
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, packed_attention)


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
    mask: Any = causal_lower_right(queries, keys)
    if window is not None and keys > window:
        mask = _seen(queries, keys, window, query.device)
    elif queries == keys:
        mask = None
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """What no fused kernel on a CPU does: bounded products and sinks."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    products = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    if softcap is not None:
        products = softcap * torch.tanh(products / softcap)
    seen = _seen(query.shape[2], key.shape[2], window, query.device)
    products = products.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        products = torch.cat([products, sinks.view(1, -1, 1, 1).expand(1, -1, len(seen), 1)], -1)
    weights = torch.softmax(products, dim=-1, dtype=torch.float32)[..., : key.shape[2]]
    return F.dropout(weights.to(value.dtype), dropout) @ value


def _seen(
    queries: int, keys: int, window: int | None, device: torch.device
) -> Bool[Tensor, "queries keys"]:
    """The queries are the last of the keys."""
    at = torch.arange(keys - queries, keys, device=device)[:, None]
    gap = at - torch.arange(keys, device=device)
    return (gap >= 0) & (gap < (window or keys))


@lru_cache(maxsize=4)
def _block_mask(layout: Layout, window: int | None, device: torch.device) -> BlockMask:
    group, part, distance = (owner.to(device) for owner in layout.owners())
    reach = window or layout.length

    return create_block_mask(
        lambda batch, head, query, key: (
            (group[query] == group[key])
            & ((part[key] == 0) | (part[key] == part[query]))
            & (distance[query] >= distance[key])
            & (distance[query] - distance[key] < reach)
        ),
        None,
        None,
        layout.length,
        layout.length,
        device=str(device),
    )


def _check_window(module: nn.Module, window: int | None) -> None:
    """A model that keeps its window in its masks would see too far here."""
    config: Any = module.config
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        slides = kinds[module.layer_idx] == "sliding_attention"
    else:
        slides = getattr(config, "sliding_window", None) is not None
    if slides and window is None:
        raise NotImplementedError(f"{type(module).__name__} keeps its window in its masks.")
