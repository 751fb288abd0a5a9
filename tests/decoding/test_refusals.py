"""What can't work is refused by name."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import BlipForConditionalGeneration, DynamicCache, GenerationConfig

from contralign.decoding import CAD, CD, generate, wrap


@pytest.fixture
def batch(prompts, left_padded):
    return left_padded(prompts[0]), left_padded(prompts[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_cache": False}, "use_cache=False"),
        ({"cache_implementation": "paged"}, "continuous batching"),
        ({"token_healing": True}, "token_healing"),
        ({"assistant_early_exit": 1}, "assistant_early_exit"),
        ({"past_key_values": DynamicCache()}, "past_key_values"),
        ({"inputs_embeds": torch.zeros(3, 23, 32)}, "inputs_embeds"),
        ({"custom_generate": lambda *args: None}, "custom_generate"),
        ({"decoder_input_ids": torch.zeros(3, 2)}, "decoder_input_ids"),
        ({"guidance_scale": 1.5}, "guidance_scale"),
        ({"generation_config": GenerationConfig(use_cache=False)}, "use_cache=False"),
        ({"generation_config": GenerationConfig(guidance_scale=2.0)}, "guidance_scale"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, llama, batch):
    with pytest.raises(ValueError, match=message):
        generate(llama, batch[0], CAD(), batch[1], max_new_tokens=2, **options)


def test_merged_execution_is_refused_where_it_cannot_be(tiny, llama, batch):
    with pytest.raises(ValueError, match="an encoder-decoder rules out"):
        generate(tiny("t5"), batch[0], CAD(), batch[1], "merged", max_new_tokens=2)
    with pytest.raises(ValueError, match="another model rules out"):
        generate(llama, batch[0], CD(tiny("gpt2")), execution="merged", max_new_tokens=2)


def test_prompt_learning_is_refused(own_llama):
    tuned = get_peft_model(
        own_llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    with pytest.raises(ValueError, match="PROMPT_TUNING puts virtual tokens"):
        wrap(tuned, CAD())


def test_models_without_a_generate_or_with_their_own_are_refused(llama):
    with pytest.raises(ValueError, match="model with generate, got LlamaModel"):
        wrap(llama.model, CAD())
    own = object.__new__(BlipForConditionalGeneration)
    with pytest.raises(ValueError, match="has a generate of its own"):
        wrap(own, CAD())


def test_peft_and_compiled_models_are_unwrapped(own_llama, batch):
    inputs, branch = batch
    options = {"max_new_tokens": 4, "do_sample": False}
    plain = generate(own_llama, inputs, CAD(), branch, **options)
    assert torch.equal(generate(torch.compile(own_llama), inputs, CAD(), branch, **options), plain)
    tuned = get_peft_model(own_llama, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        next(p for name, p in tuned.named_parameters() if "lora_B" in name).normal_(std=5)
    adapted = generate(tuned.eval(), inputs, CAD(), branch, **options)
    assert not torch.equal(adapted, plain)
    bare = tuned.merge_and_unload()
    assert torch.equal(generate(bare, inputs, CAD(), branch, **options), adapted)
