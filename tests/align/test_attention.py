"""Attention by segments equals attention under the layout's dense mask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_mask
from transformers.integrations.flex_attention import flex_attention_forward

from contralign.align.attention import _block_mask, packed_attention
from contralign.align.packing import Layout

LAYOUT = Layout(
    (
        (slice(0, 5), (slice(5, 9), slice(9, 9), slice(9, 12))),
        (slice(12, 13), (slice(13, 20), slice(20, 21))),
    )
)


class Layer(nn.Module):
    def __init__(self, layer_idx: int = 0, **config: Any) -> None:
        super().__init__()
        self.layer_idx, self.config = layer_idx, SimpleNamespace(**config)


def dense(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    products = torch.einsum("bhqd,bhkd->bhqk", query, key) * scaling
    if softcap is not None:
        products = softcap * torch.tanh(products / softcap)
    products[..., ~LAYOUT.visible(window)] = -torch.inf
    if sinks is not None:
        shape = (1, 4, LAYOUT.length, 1)
        products = torch.cat([products, sinks[None, :, None, None].expand(shape)], -1)
    weights = products.softmax(-1)[..., : LAYOUT.length]
    return torch.einsum("bhqk,bhkd->bqhd", weights, value)


@pytest.mark.parametrize("window", [None, 3, 100])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0])])
def test_equals_dense_attention(
    window: int | None, softcap: float | None, sinks: Tensor | None
) -> None:
    query = torch.randn(1, 4, LAYOUT.length, 8, requires_grad=True)
    key, value = torch.randn(2, 1, 2, LAYOUT.length, 8, requires_grad=True)
    found, weights = packed_attention(
        Layer(),
        query,
        key,
        value,
        None,
        scaling=0.4,
        packed_layout=LAYOUT,
        sliding_window=window,
        softcap=softcap,
        s_aux=sinks,
    )
    assert weights is None
    expected = dense(query, key, value, 0.4, window, softcap, sinks)
    assert torch.allclose(found, expected, atol=1e-5)
    upstream = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad((found * upstream).sum(), (query, key, value)),
        torch.autograd.grad((expected * upstream).sum(), (query, key, value)),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("window", [None, 3])
def test_the_block_mask_for_cuda_says_the_same(window: int | None) -> None:
    mask = _block_mask(LAYOUT, window, torch.device("cpu"))
    length = LAYOUT.length
    shown = create_mask(mask.mask_mod, None, None, length, length, device="cpu")
    assert torch.equal(shown[0, 0], LAYOUT.visible(window))


def test_a_window_that_only_a_mask_would_know_is_refused() -> None:
    states = torch.zeros(1, 2, LAYOUT.length, 4)
    kinds = ["full_attention", "sliding_attention"]
    for module in (Layer(sliding_window=3), Layer(1, layer_types=kinds)):
        with pytest.raises(NotImplementedError, match="window in its masks"):
            packed_attention(module, states, states, states, None, packed_layout=LAYOUT)
    full = Layer(0, layer_types=kinds)
    assert packed_attention(full, states, states, states, None, packed_layout=LAYOUT)[1] is None


def test_what_the_layout_cant_express_is_refused() -> None:
    states = torch.zeros(1, 2, LAYOUT.length, 4)
    with pytest.raises(NotImplementedError, match="position bias"):
        packed_attention(
            Layer(), states, states, states, None, packed_layout=LAYOUT, position_bias=states
        )


@pytest.mark.slow  # it compiles
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_the_call_for_cuda_says_the_same_compiled_for_a_cpu(
    window: int | None, softcap: float | None
) -> None:
    query = torch.randn(1, 4, LAYOUT.length, 16)
    key, value = torch.randn(2, 1, 2, LAYOUT.length, 16)
    mask = _block_mask(LAYOUT, window, torch.device("cpu"))
    found, _ = flex_attention_forward(Layer(), query, key, value, mask, 0.4, softcap)
    assert torch.allclose(found, dense(query, key, value, 0.4, window, softcap, None), atol=1e-5)
