"""Tiny random models of the families that the engine is held against, and batches for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers as hf

from contralign.align.batch import Batch

VOCAB = 97
TINY: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**TINY, "num_key_value_heads": 2}
HEADED = {**GROUPED, "head_dim": 8}
GPT2: dict[str, Any] = {
    "vocab_size": VOCAB,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Windows are shorter than the prompts.
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**HEADED)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=6)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(
            **HEADED,
            sliding_window=6,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
            attn_implementation="eager",
        )
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**HEADED, sliding_window=6)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    "mixtral": lambda: hf.MixtralForCausalLM(
        hf.MixtralConfig(**GROUPED, num_local_experts=4, sliding_window=None)
    ),
    "gpt-oss": lambda: hf.GptOssForCausalLM(
        hf.GptOssConfig(
            **HEADED,
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=6,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        )
    ),
    "granite": lambda: hf.GraniteForCausalLM(
        hf.GraniteConfig(**GROUPED, logits_scaling=3.0, attention_multiplier=0.3)
    ),
    "cohere2": lambda: hf.Cohere2ForCausalLM(hf.Cohere2Config(**GROUPED, sliding_window=6)),
}
UNPACKABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "bloom": (
        lambda: hf.BloomForCausalLM(
            hf.BloomConfig(
                vocab_size=VOCAB,
                hidden_size=32,
                n_layer=2,
                n_head=4,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
            )
        ),
        "prefix",
    ),
    "lfm2": (
        lambda: hf.Lfm2ForCausalLM(
            hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"])
        ),
        "padded",
    ),
    "mamba": (
        lambda: hf.MambaForCausalLM(
            hf.MambaConfig(
                vocab_size=VOCAB,
                hidden_size=32,
                num_hidden_layers=2,
                state_size=4,
                bos_token_id=1,
                eos_token_id=2,
                pad_token_id=0,
            )
        ),
        "padded",
    ),
}


def made(build: Callable[[], Any]) -> Any:
    """A model far enough from its initialisation that what it attends to shows in its logits."""
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def ragged(
    prompts: Sequence[int] = (12, 5, 1),
    completions: Sequence[Sequence[int]] = ((7, 3), (1, 11), (4, 9)),
) -> Batch:
    """Random prompts and completions of the given lengths."""
    return Batch(
        [tokens(count, seed) for seed, count in enumerate(prompts)],
        [
            [tokens(count, 100 + 10 * seed + k) for k, count in enumerate(counts)]
            for seed, counts in enumerate(completions)
        ],
    )
