"""Caches that hold more than keys, values and states are read one branch after the other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicIndexedLayer, DynamicLayer

from contralign.decoding import CAD, caches, generate


def filled(length, rows=1, value=1.0):
    cache = DynamicCache()
    states = torch.full((rows, 2, length, 4), value)
    cache.update(states, states, 0)
    return cache


def test_the_shorter_branch_is_padded_on_the_left():
    joined = caches.merged([filled(3), filled(1, rows=2, value=2.0)], [3, 1], lambda longest: None)
    keys = joined.layers[0].keys
    assert keys.shape == (3, 2, 3, 4)
    assert keys[:, 0, :, 0].tolist() == [[1, 1, 1], [0, 0, 2], [0, 0, 2]]


def test_what_cannot_be_stacked_is_named():
    assert caches.unmergeable(filled(2)) is None
    odd = Cache(layers=[DynamicLayer(), DynamicIndexedLayer()])
    assert caches.unmergeable(odd) == "DynamicIndexedLayer"
    assert caches.unmergeable(SimpleNamespace(offloading=True)) == "an offloaded cache"
    assert caches.unmergeable(SimpleNamespace()) == "SimpleNamespace"


def test_an_unknown_cache_falls_back_to_sequential(
    monkeypatch, caplog, llama, prompts, left_padded
):
    inputs, branch = left_padded(prompts[0]), left_padded(prompts[1])
    options = {"max_new_tokens": 5, "do_sample": False}
    merged = generate(llama, inputs, CAD(), branch, "merged", **options)
    monkeypatch.setattr(caches, "MERGEABLE", frozenset())
    with caplog.at_level("INFO", logger="contralign.decoding"):
        assert torch.equal(generate(llama, inputs, CAD(), branch, **options), merged)
    assert "execution: sequential (DynamicLayer)" in caplog.text
    with pytest.raises(ValueError, match="DynamicLayer rules out"):
        generate(llama, inputs, CAD(), branch, "merged", **options)
