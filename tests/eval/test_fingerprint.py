"""A fingerprint notices another model, another dtype, and a checkpoint that changed in place."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import transformers
from eval_doubles import tiny_llama

from contralign.eval.fingerprint import fingerprint, weights_digest


def test_it_names_what_computes() -> None:
    found = fingerprint(tiny_llama())
    assert found["dtype"] == "float32"
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__


def test_a_folder_is_known_by_its_last_part_and_its_weights(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "tiny")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    found = fingerprint(loaded)
    assert found["name"] == "tiny"
    assert found["weights"] == weights_digest(tiny_llama())


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
