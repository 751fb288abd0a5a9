"""Scratch weights: the same samples, the base bit for bit, and a policy of some updates ago."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy
from peft import IA3Config, LoHaConfig, PrefixTuningConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from contralign.align.sampling import Sampling
from contralign.align.scratch import FILE, Lagged, merged

PROMPTS = ragged()
IDS = torch.tensor([PROMPTS.prompts[0]])
DRAW = Sampling(k=2, longest=6, temperature=1.0, stops=(2,), pad=0, seed=3)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "lora_alpha": 3},
    "dora": {"use_dora": True, "target_modules": LINEAR},
    "all-linear": {"target_modules": "all-linear", "lora_dropout": 0.5},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
}


def adapted(model: nn.Module) -> int:
    return sum(isinstance(module, BaseTunerLayer) for module in model.modules())


def kept(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in model.state_dict().items()}


def checkpoint(folder: Path, update: int) -> Path:
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": update}))
    return folder


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("name", ADAPTERS)
def test_logits_and_samples_are_those_beside_the_weights(name: str) -> None:
    model = policy(**ADAPTERS[name]).eval()
    before, layers = model(IDS).logits, adapted(model)
    with merged(model):
        assert adapted(model) == 0
        assert torch.allclose(model(IDS).logits, before, atol=1e-4)
        said = DRAW(model, PROMPTS, "update 0").completions
    assert adapted(model) == layers
    assert torch.equal(model(IDS).logits, before)
    assert said == DRAW(model, PROMPTS, "update 0").completions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_weights_are_bit_identical_after_a_hundred_rounds(dtype: torch.dtype) -> None:
    model = policy(target_modules=LINEAR)
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.to(dtype)
    first = kept(model)
    pointers = [x.data_ptr() for x in model.parameters()]
    for seed in range(100):
        with merged(model), torch.no_grad():
            model(IDS)
        moved(model, 0.01, seed)
    now = kept(model)
    base = [name for name in first if "lora_" not in name]
    assert same({name: now[name] for name in base}, {name: first[name] for name in base})
    assert [x.data_ptr() for x in model.parameters()] == pointers
    assert not same(now, first)


def test_half_precision_is_rounded_once() -> None:
    model = policy(target_modules=["q_proj"])
    layer = model.get_base_model().model.layers[0].self_attn
    layer.q_proj.base_layer.to(torch.bfloat16)
    exact = layer.q_proj.base_layer.weight.float() + layer.q_proj.get_delta_weight("default")
    with merged(model):
        assert torch.equal(layer.q_proj.weight, exact.bfloat16())


def test_autocast_does_not_round_the_sum() -> None:
    model = policy()
    moved(model)
    with merged(model):
        expected = kept(model)
    with torch.autocast("cpu", dtype=torch.bfloat16), merged(model):
        found = kept(model)
    assert same(found, expected)


def test_modes_gradients_and_checkpointing_come_back() -> None:
    model = policy(modules_to_save=["lm_head"], lora_dropout=0.5).train()
    model.get_base_model().activation_checkpointing_enable()
    model(input_ids=IDS, labels=IDS).loss.backward()
    modes = [module.training for module in model.modules()]
    flags = {name: x.requires_grad for name, x in model.named_parameters()}
    slopes = {n: x.grad.clone() for n, x in model.named_parameters() if x.grad is not None}
    DRAW(model, PROMPTS, "update 0")
    assert [module.training for module in model.modules()] == modes
    assert {name: x.requires_grad for name, x in model.named_parameters()} == flags
    assert all(torch.equal(dict(model.named_parameters())[n].grad, x) for n, x in slopes.items())
    assert model.get_base_model().is_activation_checkpointing
    with pytest.raises(KeyError), merged(model):
        raise KeyError
    assert adapted(model) == 4 + 2


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["v_proj"], feedforward_modules=[]),
        LoHaConfig(r=2, target_modules=["v_proj"]),
        PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    ],
    ids=["ia3", "loha", "prefix"],
)
def test_other_adapters_stay_beside_the_weights(config: Any) -> None:
    model = get_peft_model(made(MODELS["llama"]), config).eval()
    layers = adapted(model)
    with merged(model):
        assert adapted(model) == layers


def test_layers_that_cannot_be_copied_stay_beside_the_weights() -> None:
    model = policy(target_modules=["q_proj", "v_proj"])
    first, second = (layer.self_attn for layer in model.get_base_model().model.layers)
    first.q_proj.base_layer.forward = lambda x: x  # as accelerate's hooks are
    weight = first.v_proj.base_layer
    weight.weight = nn.Parameter(weight.weight.to(torch.float8_e4m3fn), requires_grad=False)
    second.q_proj.enable_adapters(False)
    with merged(model):
        assert adapted(model) == 3
        assert isinstance(second.v_proj, nn.Linear)


@pytest.mark.parametrize("lora", [True, False])
def test_samples_lag_and_catch_up(lora: bool) -> None:
    model: Any = policy(modules_to_save=["lm_head"]) if lora else made(MODELS["llama"])
    lagged = Lagged(model, 3)
    seen, lags, truth = [], [], []
    for update in range(6):
        before = kept(model)
        truth.append(model(IDS).logits)
        with lagged.at(update) as lag, torch.no_grad():
            seen.append(model(IDS).logits)
        lags.append(lag)
        assert same(kept(model), before)
        moved(model, 0.1, update)
    assert lags == [0, 1, 2, 0, 1, 2]
    assert all(torch.equal(seen[i], truth[i - lag]) for i, lag in enumerate(lags))
    assert not torch.equal(truth[3], truth[0])


def test_without_a_lag_nothing_is_copied() -> None:
    model = policy()
    lagged = Lagged(model, 1)
    with lagged.at(7) as lag:
        assert lag == 0
    assert lagged.since is None


def test_a_copy_goes_with_its_checkpoint(tmp_path: Path) -> None:
    model = policy()
    lagged = Lagged(model, 4)
    with lagged.at(4):
        expected = model(IDS).logits
    moved(model)
    lagged.save(tmp_path)
    again = Lagged(model, 4)
    again.load(checkpoint(tmp_path, 6))
    with again.at(6) as lag:
        assert lag == 2
        assert torch.equal(model(IDS).logits, expected)


def test_what_cannot_go_on_is_refused(tmp_path: Path) -> None:
    model = policy()
    lagged = Lagged(model, 4)
    lagged.load(checkpoint(tmp_path, 8))  # where a copy is due anyway
    with pytest.raises(OSError, match=rf"no {FILE}.* 2 updates behind.*a multiple of 4"):
        lagged.load(checkpoint(tmp_path, 6))
    with pytest.raises(RuntimeError, match="update 5 samples from 4, whose weights are lost"):
        lagged.at(5).__enter__()
    with lagged.at(4):
        lagged.save(tmp_path)
    with pytest.raises(ValueError, match="is of another model"):
        Lagged(policy(r=2), 4).load(tmp_path)
    with pytest.raises(ValueError, match="refresh_every"):
        Lagged(model, 0)
