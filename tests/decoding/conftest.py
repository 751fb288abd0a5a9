"""Tiny random models of many architectures, and the reference that every engine must equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

EOS, PAD = 2, 0

_LLAMA: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": PAD,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}
_LINEAR: dict[str, Any] = {
    "head_dim": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_MAMBA: dict[str, Any] = {
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_chunk_size": 16,
}

MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_LLAMA)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**_LLAMA, head_dim=16)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**_LLAMA, sliding_window=8)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**{**_LLAMA, "initializer_range": 0.4}, head_dim=16, sliding_window=8)
    ),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**{**_LLAMA, "initializer_range": 0.4}, head_dim=16, sliding_window=8)
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_LLAMA, num_local_experts=4)),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=128,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=256,
            bos_token_id=1,
            eos_token_id=None,
            pad_token_id=PAD,
            initializer_range=0.2,
        )
    ),
    "lfm2": lambda: hf.Lfm2ForCausalLM(
        hf.Lfm2Config(**_LLAMA, layer_types=["conv", "full_attention", "conv", "full_attention"])
    ),
    "qwen3_next": lambda: hf.Qwen3NextForCausalLM(hf.Qwen3NextConfig(**_LLAMA, **_LINEAR)),
    "falcon_h1": lambda: hf.FalconH1ForCausalLM(hf.FalconH1Config(**_LLAMA, **_MAMBA)),
    "mamba": lambda: hf.MambaForCausalLM(
        hf.MambaConfig(
            vocab_size=128,
            hidden_size=32,
            num_hidden_layers=2,
            state_size=8,
            pad_token_id=PAD,
            eos_token_id=None,
            bos_token_id=1,
            initializer_range=0.3,
        )
    ),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=128,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=PAD,
            pad_token_id=PAD,
            eos_token_id=None,
        )
    ),
}


@cache
def _built(name: str) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.generation_config = hf.GenerationConfig(
        pad_token_id=PAD,
        decoder_start_token_id=PAD if model.config.is_encoder_decoder else None,
    )
    return model


@pytest.fixture
def tiny() -> Callable[[str], Any]:
    """Build a tiny random model by architecture; the same object each time, so don't change it."""
    return _built


@pytest.fixture
def llama() -> Any:
    return _built("llama")


@pytest.fixture
def own_llama() -> Any:
    """A copy that a test may change."""
    return copy.deepcopy(_built("llama"))


def _left_padded(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def left_padded() -> Callable[[Sequence[Sequence[int]]], dict[str, Tensor]]:
    return _left_padded


@pytest.fixture
def prompts() -> tuple[list[list[int]], list[list[int]]]:
    """Three prompts of unequal lengths, longer than the tiny windows, and their contrasts."""
    generator = torch.Generator().manual_seed(1)
    mains = [torch.randint(3, 128, (n,), generator=generator).tolist() for n in (17, 9, 23)]
    return mains, [main[-n:] for main, n in zip(mains, (5, 9, 12), strict=True)]


def _next_logits(model: Any, prompt: Sequence[int], new: Sequence[int]) -> Tensor:
    if model.config.is_encoder_decoder:
        decoder = torch.tensor([[PAD, *new]])
        return model(torch.tensor([prompt]), decoder_input_ids=decoder).logits[0, -1].float()
    return model(torch.tensor([[*prompt, *new]]), use_cache=False).logits[0, -1].float()


@torch.no_grad()
def _naive(
    readers: Sequence[Any],
    branches: Sequence[Sequence[Sequence[int]]],
    rule: Callable[..., Tensor],
    steps: int,
    *,
    seed: int | None = None,
    eos: int | None = None,
) -> list[list[int]]:
    """Row by row, unpadded, uncached: every branch's whole sequence is read anew at each step."""
    rows = len(branches[0])
    new: list[list[int]] = [[] for _ in range(rows)]
    done = [False] * rows
    if seed is not None:
        torch.manual_seed(seed)
    for _ in range(steps):
        if all(done):
            break
        scores = torch.stack(
            [
                rule(
                    *(
                        _next_logits(reader, branch[i], new[i])
                        for reader, branch in zip(readers, branches, strict=True)
                    )
                )
                for i in range(rows)
            ]
        )
        if seed is None:
            tokens = scores.argmax(-1)
        else:
            tokens = torch.multinomial(scores.softmax(-1), 1)[:, 0]
        for i in range(rows):
            new[i].append(PAD if done[i] else int(tokens[i]))
            done[i] = done[i] or new[i][-1] == eos
    return new


@pytest.fixture
def naive() -> Callable[..., list[list[int]]]:
    return _naive


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level tokenizer of single characters, as many as the tiny models have ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: 128 - len(special)]
    vocabulary = {token: i for i, token in enumerate(special + alphabet)}
    characters = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters.decoder = decoders.ByteLevel()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
    )
