"""Policies to hold references against: a tiny Llama whose adapter says something."""

from __future__ import annotations

from typing import Any

import torch
from align_models import MODELS, made
from peft import LoraConfig, PeftModel, get_peft_model

LORA: dict[str, Any] = {
    "r": 4,
    "target_modules": ["q_proj", "v_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}


def policy(**options: Any) -> PeftModel:
    """A tiny Llama under LoRA, away from its start, where the adapter would say nothing."""
    model = get_peft_model(made(MODELS["llama"]), LoraConfig(**{**LORA, **options}))
    moved(model)
    return model


def moved(model: Any, by: float = 0.2, seed: int = 7) -> None:
    """Move what is trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(by * noise.to(parameter))


def trained(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
