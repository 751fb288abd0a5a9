"""A digest of weights notices a training step, another dtype and another shape."""

from __future__ import annotations

import copy

import torch
from eval_doubles import tiny_llama

from contralign.decoding.digest import weights_digest


def test_a_training_step_changes_the_digest() -> None:
    model = tiny_llama()
    before = weights_digest(model)
    model(torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]])).loss.backward()
    torch.optim.SGD(model.model.layers[1].parameters(), lr=1e-3).step()
    assert weights_digest(model) != before


def test_dtype_and_shape_change_the_digest() -> None:
    model = tiny_llama()
    wider = copy.deepcopy(model)
    wider.resize_token_embeddings(31)
    digests = [weights_digest(each) for each in (model, wider, copy.deepcopy(model).bfloat16())]
    assert len(set(digests)) == 3


def test_empty_and_offloaded_tensors_are_no_obstacle() -> None:
    model = torch.nn.Module()
    model.register_buffer("empty", torch.empty(0))
    model.register_buffer("elsewhere", torch.empty(3, device="meta"))
    assert len(weights_digest(model)) == 32
