"""On CUDA: FlexAttention and TRL's kernel give the log-probs and gradients of padded rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from align_models import GROUPED, made, ragged
from peft import LoraConfig, get_peft_model

from contralign.align.engine import Engine

pytestmark = pytest.mark.gpu

WIDE: dict[str, Any] = {**GROUPED, "hidden_size": 64, "head_dim": 16}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**WIDE)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**WIDE, sliding_window=6)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**WIDE, sliding_window=6, attn_logit_softcapping=2.0)
    ),
    "narrow": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
}


def scored(model: Any, path: str, checkpointed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    if checkpointed:
        model.activation_checkpointing_enable()
    model.train()
    engine = Engine(model, path)
    with engine.installed():
        logps = engine(ragged()).logps
        weights = torch.linspace(-1, 1, logps.numel(), device=logps.device).view_as(logps)
        (weights * logps).sum().backward()
    grads = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    return logps.detach(), torch.cat(grads)


@pytest.mark.parametrize("trained", ["everything", "an adapter"])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_packed_equals_padded(name: str, checkpointed: bool, trained: str) -> None:
    model = made(MODELS[name])
    if trained == "an adapter":
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.normal_(std=0.2)
    model.cuda()
    packed, packed_grads = scored(model, "packed", checkpointed)
    padded, padded_grads = scored(model, "padded", checkpointed)
    assert (packed - padded).abs().max() < 1e-4
    assert (packed_grads - padded_grads).norm() < 1e-3 * padded_grads.norm()


def test_in_bfloat16_the_error_is_the_padded_rows() -> None:
    model = made(MODELS["llama"])
    exact = Engine(model, "padded")(ragged()).logps.detach()
    model.cuda().bfloat16()
    errors = [
        (Engine(model, path)(ragged()).logps.cpu() - exact).abs().mean()
        for path in ("packed", "padded")
    ]
    assert errors[0] <= 1.5 * errors[1]
