"""What PEFT does to a model, undone for a moment, and nothing of it left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, tokens
from align_policies import moved, policy, trained
from peft import (
    LoraConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
)
from torch import Tensor

from contralign.align.adapters import (
    REFERENCE,
    base_tensors,
    copy_adapter,
    evaluating,
    load_reference_adapter,
    refuse_lost_base,
    refuse_merged,
    switched_off,
    wearing,
)

IDS = torch.tensor([tokens(9, 1)])
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "modules-to-save": {"modules_to_save": ["lm_head"]},
    "tokens": {"trainable_token_indices": [5, 6]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def state(model: Any) -> dict[str, Any]:
    return {
        "trained": trained(model),
        "modes": [module.training for module in model.modules()],
        "active": model.active_adapter,
        "own": sorted(set(vars(model)) & {"forward", "prepare_inputs_for_generation"}),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_off_it_is_the_base_and_then_again_what_it_was(kind: str) -> None:
    base, model = logits(made(MODELS["llama"])), policy(**KINDS[kind])
    said = logits(model)
    model.train()
    before = state(model)
    with switched_off(model):
        assert torch.equal(model(IDS).logits, base)
        assert not model(IDS).logits.requires_grad
    assert state(model) == before
    assert torch.equal(logits(model), said)
    assert not torch.allclose(said, base)


def test_off_is_undone_after_an_error_too() -> None:
    model = policy().train()
    before = state(model)
    with pytest.raises(RuntimeError), switched_off(model):
        raise RuntimeError
    assert state(model) == before


def test_prompt_learning_is_switched_off() -> None:
    base = logits(made(MODELS["llama"]))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(made(MODELS["llama"]), config).train()
    before = state(model)
    with switched_off(model):
        assert torch.equal(model(IDS).logits, base)
    assert state(model) == before
    assert before["own"] == []


def test_a_part_of_the_adapter_that_was_frozen_stays_frozen() -> None:
    model = policy()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    copy_adapter(model)
    assert trained(model)
    for view in (switched_off(model), wearing(model, "reference"), evaluating(model)):
        with view:
            assert model.active_adapter
        assert all("lora_B.default" in name for name in trained(model))


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_says_the_same_and_stays(kind: str) -> None:
    model = policy(**KINDS[kind])
    said, before = logits(model), trained(model)
    copy_adapter(model)
    assert trained(model) == before
    assert torch.equal(logits(model), said)
    moved(model)
    with wearing(model, "reference"):
        assert torch.equal(model(IDS).logits, said)
    assert not torch.allclose(logits(model), said)
    assert trained(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_copy_computes_in_the_adapters_dtype(dtype: torch.dtype) -> None:
    model = get_peft_model(
        made(MODELS["llama"]).to(torch.bfloat16),
        LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
        autocast_adapter_dtype=dtype == torch.float32,
    )
    moved(model)
    said = logits(model)
    copy_adapter(model)
    assert {p.dtype for n, p in model.named_parameters() if ".reference." in n} == {dtype}
    with wearing(model, "reference"):
        assert torch.equal(model(IDS).logits, said)


def test_copying_draws_no_random_numbers() -> None:
    model = policy()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    copy_adapter(model)
    assert torch.equal(torch.rand(2), expected)


def test_a_copy_of_pissa_leaves_the_base_weights_alone() -> None:
    model = policy(init_lora_weights="pissa")
    said, weights = logits(model), base_tensors(model)
    kept = {name: value.clone() for name, value in weights.items()}
    copy_adapter(model)
    assert all(torch.equal(kept[name], value) for name, value in base_tensors(model).items())
    with wearing(model, "reference"):
        assert torch.equal(model(IDS).logits, said)


def test_a_copy_is_of_one_adapter_of_weights() -> None:
    model = policy()
    copy_adapter(model)
    with pytest.raises(ValueError, match="got LORA with default active of default, reference"):
        copy_adapter(model)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(ValueError, match="got PROMPT_TUNING"):
        copy_adapter(get_peft_model(made(MODELS["llama"]), config))


def test_the_copy_is_saved_in_a_folder_of_its_own(tmp_path: Path) -> None:
    model = policy()
    model.save_pretrained(tmp_path / "before")
    copy_adapter(model)
    model.save_pretrained(tmp_path / "after")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        before, after = tmp_path / "before" / name, tmp_path / "after" / name
        assert before.read_bytes() == after.read_bytes()
    folders = [path.name for path in (tmp_path / "after").iterdir() if path.is_dir()]
    assert folders == [REFERENCE]


def test_an_adapter_of_another_shape_can_stand_beside(tmp_path: Path) -> None:
    other = policy(r=2, target_modules=["o_proj"])
    other.save_pretrained(tmp_path)
    model = policy().train()
    modules, before = list(model.modules()), trained(model)
    load_reference_adapter(model, str(tmp_path))
    assert all(module.training for module in modules)
    assert trained(model) == before
    with wearing(model, "reference"):
        assert torch.equal(model(IDS).logits, logits(other))


def test_an_adapter_of_another_depth_does_not_fit(tmp_path: Path) -> None:
    config = {**vars(made(MODELS["llama"]).config), "num_hidden_layers": 3}
    deeper = type(made(MODELS["llama"]))(type(made(MODELS["llama"]).config)(**config))
    get_peft_model(deeper, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="doesn't fit the policy's base model: 2 weights"):
        load_reference_adapter(policy(), str(tmp_path))


@pytest.mark.parametrize(
    "config",
    [
        *(LoraConfig(**{"target_modules": ["q_proj"], **options}) for options in KINDS.values()),
        VeraConfig(target_modules=["q_proj"], r=4),
        TrainableTokensConfig(token_indices=[3, 4], target_modules=["embed_tokens"]),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_base_tensors_have_their_plain_names(config: Any) -> None:
    plain = made(MODELS["llama"]).state_dict()
    model = get_peft_model(made(MODELS["llama"]), config)
    moved(model)
    found = base_tensors(model)
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_tied_embeddings_are_named_twice_as_without_peft() -> None:
    model = made(MODELS["gpt2"])
    plain = set(model.state_dict())
    config = LoraConfig(target_modules=["wte", "c_attn"], fan_in_fan_out=True)
    assert base_tensors(get_peft_model(model, config)).keys() == plain


def test_refuses_what_is_merged() -> None:
    model = policy()
    refuse_merged(model)
    model.merge_adapter()
    with pytest.raises(ValueError, match="it is merged into them"):
        refuse_merged(model)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_refuses_a_base_that_went_into_the_adapter(start: str) -> None:
    with pytest.raises(ValueError, match=f"init_lora_weights='{start}' took a part"):
        refuse_lost_base(policy(init_lora_weights=start))


def test_refuses_weights_that_are_trained_beside_the_adapter() -> None:
    refuse_lost_base(policy(modules_to_save=["lm_head"]))
    model = policy()
    model.get_base_model().lm_head.weight.requires_grad_()
    with pytest.raises(ValueError, match=r"but lm_head\.weight and 1 in all are trained outside"):
        refuse_lost_base(model)


def test_refuses_prompt_learning_with_modules_that_stay_on() -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    refuse_lost_base(get_peft_model(made(MODELS["llama"]), config))
    config.modules_to_save = ["lm_head"]
    with pytest.raises(ValueError, match="with modules_to_save can't be switched off"):
        refuse_lost_base(get_peft_model(made(MODELS["llama"]), config))
