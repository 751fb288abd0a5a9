"""Models of true shapes with random weights: speed does not depend on what they learned."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

SHAPES = {
    # Almost no vocabulary: what is left is the layers, as in a large model.
    "body": {
        "vocab_size": 2048,
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "intermediate_size": 704,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}

# The vision tower that stands beside each: CLIP with patches of 14 pixels.
TOWERS = {
    "body": {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "image_size": 168,
    },
    "smollm2-135m": {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "image_size": 224,
    },
    "llama-8b": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
    },
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
    },
}
PATCH = 14


def config(shape: str, layers: int | None = None) -> LlamaConfig:
    """The shape's config, with its own number of layers or the given one."""
    changed = {} if layers is None else {"num_hidden_layers": layers}
    return LlamaConfig(**{**SHAPES[shape], **changed}, max_position_embeddings=8192)


def random_model(
    shape: str, dtype: torch.dtype, device: torch.device, layers: int | None = None
) -> Any:
    """Make the weights where they will be used, without a copy on the CPU."""
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config(shape, layers), dtype=dtype)
    return ready(model)


def random_llava(
    shape: str, dtype: torch.dtype, device: torch.device, layers: int | None = None
) -> Any:
    """LLaVA of the shape and its tower; the vocabulary's last token stands for a patch."""
    torch.manual_seed(0)
    text = config(shape, layers)
    vision = {"model_type": "clip_vision_model", "patch_size": PATCH, **TOWERS[shape]}
    whole = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=text.vocab_size - 1
    )
    with device:
        model = LlavaForConditionalGeneration._from_config(whole, dtype=dtype)
    return ready(model)


def ready(model: Any) -> Any:
    """Let `generate` go on to the last token that is asked for."""
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model.eval()
