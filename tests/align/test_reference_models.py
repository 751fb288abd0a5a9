"""References that are loaded: models and adapters by their folder, and those that don't fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy, trained
from align_vlms import byte_tokenizer
from torch import Tensor, nn

from contralign.align.engine import Engine
from contralign.align.references import FrozenReference, SharedReference, make_reference

BATCH = ragged()


def scored(model: Any) -> Tensor:
    with torch.no_grad():
        return Engine(model.eval(), "padded")(BATCH).logps


def equal(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, atol=2e-5)


def _made(kind: Any, model: Any) -> Any:
    return make_reference(kind, Engine(model))


@pytest.fixture
def base() -> Tensor:
    return scored(made(MODELS["llama"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The base model and its tokenizer, saved."""
    made(MODELS["llama"]).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_folder_is_loaded_like_the_policy(folder: Path, base: Tensor) -> None:
    model = made(MODELS["llama"]).to(torch.bfloat16)
    model.set_attn_implementation("eager")
    moved(model)
    reference = _made(str(folder), model)
    assert isinstance(reference, FrozenReference)
    loaded = reference.engine.model
    assert loaded.dtype == torch.bfloat16
    assert loaded.config._attn_implementation == "eager"
    assert not trained(loaded)
    apart = (reference(BATCH) - base).abs()
    assert 0 < apart.mean() < 0.05


def test_a_trainer_places_what_is_loaded(folder: Path, base: Tensor) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, **inputs: Any) -> Any:
            self.calls += 1
            return self.module(**inputs)

    reference = _made(str(folder), made(MODELS["llama"]))
    wrappers: list[Wrapper] = []

    def prepare(model: nn.Module) -> nn.Module:
        wrappers.append(Wrapper(model))
        return wrappers[-1]

    reference.place(prepare)
    assert equal(reference(BATCH), base)
    assert wrappers[0].calls
    _made("base", policy()).place(prepare)
    assert len(wrappers) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_an_adapters_folder(tmp_path: Path, folder: Path, shared: bool) -> None:
    other = policy(r=2)
    moved(other, seed=9)
    other.peft_config["default"].base_model_name_or_path = str(folder)
    other.save_pretrained(tmp_path / "adapter")
    model = policy() if shared else made(MODELS["llama"])
    if shared:
        model.peft_config["default"].base_model_name_or_path = str(folder)
    reference = _made(str(tmp_path / "adapter"), model)
    assert isinstance(reference, SharedReference if shared else FrozenReference)
    moved(model)
    assert equal(reference(BATCH), scored(other))
    assert not any(".reference." in name for name in trained(model))


def test_an_adapter_on_another_base_brings_its_own(tmp_path: Path, folder: Path) -> None:
    other = policy(r=2)
    other.peft_config["default"].base_model_name_or_path = str(folder)
    other.save_pretrained(tmp_path / "adapter")
    model = policy()
    model.peft_config["default"].base_model_name_or_path = "another/base"
    reference = _made(str(tmp_path / "adapter"), model)
    assert isinstance(reference, FrozenReference)
    assert equal(reference(BATCH), scored(other))


@pytest.mark.parametrize("handed_over", [True, False])
def test_refuses_another_vocabulary(tmp_path: Path, handed_over: bool) -> None:
    other = copy.deepcopy(made(MODELS["llama"]))
    other.resize_token_embeddings(101)
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="they have 97 and 101 tokens"):
        make_reference(other if handed_over else str(tmp_path), Engine(policy()))


def test_refuses_another_tokenizer(folder: Path) -> None:
    byte_tokenizer("<one>").save_pretrained(folder)
    model = made(MODELS["llama"])
    with pytest.raises(ValueError, match=r"share one tokenizer.*\(262 and 261 tokens"):
        make_reference(str(folder), Engine(model), tokenizer=byte_tokenizer("<one>", "<two>"))
    assert make_reference(str(folder), Engine(model), tokenizer=byte_tokenizer("<one>"))


def test_says_what_there_is_when_nothing_is_there() -> None:
    with pytest.raises(OSError, match=r"reference is base, adapter, cached, none, or.*'bass'"):
        make_reference("bass", Engine(policy()))
