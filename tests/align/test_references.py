"""References: each kind says what it must, stays where it is, and what can't be one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy, trained
from align_vlms import tiny_llava
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor

from contralign.align.batch import Batch
from contralign.align.engine import Engine
from contralign.align.reference_cache import CachedReference
from contralign.align.references import FrozenReference, SharedReference, make_reference

BATCH = ragged()


def scored(model: Any, batch: Batch = BATCH) -> Tensor:
    with torch.no_grad():
        return Engine(model.eval(), "padded")(batch).logps


def equal(found: Tensor, expected: Tensor) -> bool:
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert not found[~BATCH.mask].any()
    return torch.allclose(found, expected, atol=2e-5)


@pytest.fixture
def base() -> Tensor:
    return scored(made(MODELS["llama"]))


@pytest.mark.parametrize("path", ["auto", "packed", "padded"])
def test_base_of_an_adapter_is_the_model_without_it(base: Tensor, path: str) -> None:
    model = policy().train()
    reference = make_reference("base", Engine(model, path))
    assert isinstance(reference, SharedReference)
    assert equal(reference(BATCH), base)
    moved(model)
    assert equal(reference(BATCH), base)
    assert model.training


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_base_of_prompt_learning_has_no_virtual_tokens(base: Tensor, config: Any) -> None:
    torch.manual_seed(1)
    model = get_peft_model(
        made(MODELS["llama"]), config(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    moved(model, by=1.0)
    engine = Engine(model)
    reference = make_reference("base", engine)
    assert reference is not None
    first = engine(BATCH).logps
    assert not torch.allclose(first, base, atol=1e-2)
    assert equal(reference(BATCH), base)
    assert torch.equal(engine(BATCH).logps, first)


def test_base_of_full_fine_tuning_is_a_copy_from_memory(base: Tensor) -> None:
    model = made(MODELS["llama"]).train()
    model.config._name_or_path = "nowhere/at-all"
    reference = make_reference("base", Engine(model))
    assert isinstance(reference, FrozenReference)
    moved(model)
    assert equal(reference(BATCH), base)
    assert not trained(reference.engine.model)
    assert not reference.engine.model.training
    assert not equal(scored(model), base)


def test_a_reference_has_neither_dropout_nor_checkpointing() -> None:
    model = made(MODELS["gpt2"])
    expected = scored(model)
    config = LoraConfig(target_modules=["c_attn"], lora_dropout=0.5, fan_in_fan_out=True)
    wrapped = get_peft_model(model, config)
    moved(wrapped)
    wrapped.train()
    wrapped.activation_checkpointing_enable({"use_reentrant": False})
    said = scored(wrapped)
    wrapped.train()
    assert equal(_made("base", wrapped)(BATCH), expected)
    assert equal(_made("adapter", wrapped)(BATCH), said)
    assert all(
        module.training for module in wrapped.modules() if "Dropout" in type(module).__name__
    )


def test_gradients_flow_to_the_policy_around_a_reference() -> None:
    model = policy().train()
    engine = Engine(model, "padded")
    alone = _gradient(engine)
    for kind in ("base", "adapter"):
        reference = _made(kind, model)
        with engine.installed():
            logps = engine(BATCH).logps
            reference(BATCH)
            logps.sum().backward()
        assert torch.equal(_taken(model), alone)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_adapter_is_where_training_started(base: Tensor, options: dict[str, Any]) -> None:
    model = policy(**options)
    start = scored(model)
    reference = _made("adapter", model)
    assert equal(reference(BATCH), start)
    moved(model)
    assert equal(reference(BATCH), start)
    assert not any(".reference." in name for name in trained(model))
    assert not equal(start, base)


def test_none_is_no_reference() -> None:
    assert make_reference("none", Engine(policy())) is None


def test_a_model_may_be_handed_over(base: Tensor) -> None:
    reference = _made(made(MODELS["llama"]), policy())
    assert isinstance(reference, FrozenReference)
    assert equal(reference(BATCH), base)


@pytest.mark.parametrize("kind", ["base", "cached"])
def test_a_reference_computes_in_what_training_autocasts_to(kind: str, tmp_path: Path) -> None:
    model = made(MODELS["llama"])
    engine = Engine(model, "padded")
    engine(BATCH)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = engine(BATCH).logps
    reference = make_reference(kind, engine, autocast=torch.bfloat16, cache=tmp_path)
    if isinstance(reference, CachedReference):
        reference.fill([BATCH])
    else:
        assert isinstance(reference, FrozenReference)
        reference.engine(BATCH)
    assert torch.equal(reference(BATCH), expected)
    assert not torch.equal(scored(model), expected)


@pytest.mark.parametrize("full", [True, False])
def test_cached_is_base_on_disk(tmp_path: Path, base: Tensor, full: bool) -> None:
    model = made(MODELS["llama"]) if full else policy()
    reference = make_reference("cached", Engine(model), cache=tmp_path)
    assert isinstance(reference, CachedReference)
    if full:
        with pytest.raises(ValueError, match=r"6 completions aren't in the cache.*start anew"):
            reference(BATCH)
        reference.fill([BATCH])
    assert equal(reference(BATCH), base)
    moved(model)
    assert equal(reference(BATCH), base)


def test_cached_is_at_temperature_one() -> None:
    with pytest.raises(ValueError, match=r"temperature 0\.7"):
        make_reference("cached", Engine(policy(), temperature=0.7))


def test_vision(tmp_path: Path) -> None:
    model, _ = tiny_llava()
    batch = _vision_batch(model)
    base = scored(model, batch)
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj", "linear_1"]))
    moved(wrapped)
    for kind in ("base", "cached"):
        reference = make_reference(kind, Engine(wrapped), cache=tmp_path)
        assert reference is not None
        assert torch.allclose(reference(batch), base, atol=2e-5)
    assert not torch.allclose(scored(wrapped, batch), base, atol=1e-3)


@pytest.mark.parametrize("config", [None, LoraConfig(target_modules=["q_proj"])])
def test_refuses_the_policy_itself(config: LoraConfig | None) -> None:
    inner = made(MODELS["llama"])
    model = inner if config is None else get_peft_model(inner, config)
    with pytest.raises(ValueError, match="shares weights with the policy that are trained"):
        make_reference(inner, Engine(model))


def test_refuses_a_copy_of_an_adapter_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="policy is a LlamaForCausalLM without one"):
        make_reference("adapter", Engine(made(MODELS["llama"])))


@pytest.mark.parametrize("kind", ["base", "adapter", "cached"])
def test_refuses_to_share_base_weights_that_are_trained(kind: str, tmp_path: Path) -> None:
    model = policy(bias="all")
    model.get_base_model().lm_head.weight.requires_grad_()
    with pytest.raises(ValueError, match=r"lm_head\.weight and 1 in all are trained outside"):
        make_reference(kind, Engine(model), cache=tmp_path)


def test_refuses_a_base_that_pissa_took_apart(tmp_path: Path) -> None:
    model = policy(init_lora_weights="pissa")
    for kind in ("base", "cached"):
        with pytest.raises(ValueError, match="Set reference: adapter"):
            make_reference(kind, Engine(model), cache=tmp_path)
    start = scored(model)
    assert equal(_made("adapter", model)(BATCH), start)


def test_refuses_adapters_that_it_cannot_see() -> None:
    model = made(MODELS["llama"])
    model.add_adapter(LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="this LlamaForCausalLM holds some of its own"):
        make_reference("base", Engine(model))


def test_refuses_an_adapter_that_is_merged() -> None:
    model = policy()
    model.merge_adapter()
    with pytest.raises(ValueError, match="merged into them"):
        make_reference("base", Engine(model))


def test_refuses_to_copy_weights_that_are_split() -> None:
    model = made(MODELS["llama"])
    model.lm_head.weight.ds_id = 0  # as DeepSpeed ZeRO-3 marks them
    with pytest.raises(ValueError, match="ZeRO-3 has split"):
        make_reference("base", Engine(model))


def _made(kind: Any, model: Any) -> Any:
    return make_reference(kind, Engine(model))


def _gradient(engine: Engine) -> Tensor:
    with engine.installed():
        engine(BATCH).logps.sum().backward()
    return _taken(engine.model)


def _taken(model: Any) -> Tensor:
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.cat(gradients)


def _vision_batch(model: Any) -> Batch:
    image = model.config.image_token_id
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return Batch(
        [[1, *[image] * 4, 30, 31], [1, 40, *[image] * 4, 41]],
        [[[50, 51, 2], [60, 2]], [[52, 2], [61, 62, 63, 2]]],
        [{"pixel_values": pixels}, {"pixel_values": 2 * pixels}],
    )
