"""Amateurs: other models, other widths and dtypes, and the expert without its adapter."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from contralign.decoding import CD, ImprovedCD, generate, score, without_adapter

STEPS = 8
GREEDY = {"max_new_tokens": STEPS, "do_sample": False}


@pytest.fixture
def inputs(prompts, left_padded):
    return left_padded(prompts[0])


@pytest.fixture
def adapted(own_llama):
    torch.manual_seed(0)
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj", "embed_tokens"],
        modules_to_save=["lm_head"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(own_llama, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def new_tokens(sequences, inputs):
    return sequences[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("method", [partial(CD, amateur_context="full"), ImprovedCD])
def test_another_model_reads_the_same_prompt(method, llama, tiny, prompts, inputs, naive):
    method = method(amateur=tiny("gpt2"))
    ours = generate(llama, inputs, method, **GREEDY)
    reference = naive([llama, tiny("gpt2")], [prompts[0]] * 2, method.rule, STEPS)
    assert new_tokens(ours, inputs) == reference


def test_the_amateur_may_see_the_last_token_only(llama, tiny, prompts, inputs, naive):
    method = CD(amateur=tiny("gpt2"), amateur_context="last_token")
    ours = generate(llama, inputs, method, **GREEDY)
    seen = [row[-1:] for row in prompts[0]]
    assert new_tokens(ours, inputs) == naive(
        [llama, tiny("gpt2")], [prompts[0], seen], method.rule, STEPS
    )


def test_the_amateur_keeps_its_own_dtype(llama, tiny, inputs):
    half = copy.deepcopy(tiny("gpt2")).to(torch.bfloat16)
    assert generate(llama, inputs, CD(amateur=half), **GREEDY).shape == (3, 23 + STEPS)
    assert half.dtype == torch.bfloat16


def test_other_vocabularies_are_refused(llama, inputs):
    other = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    with pytest.raises(ValueError, match="share one tokenizer, but they have 128 and 64 tokens"):
        generate(llama, inputs, CD(amateur=other), **GREEDY)


def test_a_wider_head_of_the_same_tokenizer_is_cut(llama, tokenizer, tmp_path, inputs):
    """Families pad their LM heads differently (Qwen2.5): ids that one lacks are forbidden."""
    wide = copy.deepcopy(llama)
    wide.resize_token_embeddings(136)
    for name, model in {"expert": llama, "wide": wide}.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    expert = LlamaForCausalLM.from_pretrained(tmp_path / "expert").eval()
    wide = LlamaForCausalLM.from_pretrained(tmp_path / "wide").eval()
    same = generate(expert, inputs, ImprovedCD(amateur=copy.deepcopy(expert)), **GREEDY)
    assert torch.equal(generate(expert, inputs, ImprovedCD(amateur=wide), **GREEDY), same)
    assert generate(wide, inputs, ImprovedCD(amateur=expert), **GREEDY).max() < 128
    by_path = generate(expert, inputs, ImprovedCD(amateur=str(tmp_path / "wide")), **GREEDY)
    assert torch.equal(by_path, same)


def test_an_amateur_that_lacks_tokens_is_refused(llama, tokenizer, tmp_path, inputs):
    narrow = copy.deepcopy(llama)
    narrow.resize_token_embeddings(len(tokenizer) - 1)
    for name, model in {"expert": llama, "narrow": narrow}.items():
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    expert = LlamaForCausalLM.from_pretrained(tmp_path / "expert").eval()
    lacks = f"the amateur has {len(tokenizer) - 1} of its {len(tokenizer)} tokens"
    for method in (CD, ImprovedCD):
        with pytest.raises(ValueError, match=lacks):
            generate(expert, inputs, method(amateur=str(tmp_path / "narrow")), **GREEDY)
        with pytest.raises(ValueError, match=lacks):
            score(expert, inputs, [[1]] * 3, method(amateur=str(tmp_path / "narrow")))


def test_a_folder_without_a_tokenizer_is_said_to_be_compared_by_size(
    llama, tokenizer, tmp_path, inputs, caplog
):
    for name in ("expert", "bare"):
        llama.save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / "expert")
    expert = LlamaForCausalLM.from_pretrained(tmp_path / "expert").eval()
    for _ in range(2):
        generate(expert, inputs, CD(amateur=str(tmp_path / "bare")), **GREEDY)
    assert caplog.text.count(f"{tmp_path / 'bare'} has no tokenizer beside the model") == 1


def test_an_amateur_that_is_nowhere_is_named(llama, inputs):
    with pytest.raises(ValueError, match="but nobody/nothing can't be read as either"):
        generate(llama, inputs, CD(amateur="nobody/nothing"), **GREEDY)


def test_a_broken_amateur_and_an_adapter_are_named(llama, inputs, tmp_path):
    llama.save_pretrained(tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    for name, complaint in (("broken", "can't be read as either"), ("adapter", "holds an adapter")):
        with pytest.raises(ValueError, match=f"{tmp_path / name} {complaint}"):
            generate(llama, inputs, CD(amateur=str(tmp_path / name)), **GREEDY)


def test_the_digest_is_of_the_amateur_s_weights(llama, own_llama):
    assert (CD().digest, CD(amateur="base").digest) == ("", "")
    digest = ImprovedCD(amateur=own_llama).digest
    assert digest == CD(amateur=llama).digest != ""
    with torch.no_grad():
        own_llama.lm_head.weight.add_(0.1)
    assert CD(amateur=own_llama).digest != digest


def test_base_is_the_expert_without_its_adapter(adapted, llama, prompts, inputs, naive):
    method = ImprovedCD(amateur="base")
    ours = new_tokens(generate(adapted, inputs, method, **GREEDY), inputs)
    expert = copy.deepcopy(adapted).merge_and_unload()
    assert ours == naive([expert, llama], [prompts[0]] * 2, method.rule, STEPS)


def test_taking_the_adapter_off_changes_nothing_in_the_model(adapted, inputs):
    base = adapted.get_base_model()
    before = base(**inputs).logits
    bare = without_adapter(base)
    assert not torch.equal(bare(**inputs).logits, before)
    assert torch.equal(base(**inputs).logits, before)
    assert bare.model.layers[0].mlp is base.model.layers[0].mlp
    with adapted.disable_adapter():
        assert torch.equal(base(**inputs).logits, bare(**inputs).logits)


def test_the_adapter_comes_off_under_accelerate_hooks(adapted, inputs):
    from accelerate import cpu_offload

    base = adapted.get_base_model()
    bare = without_adapter(base)(**inputs).logits
    cpu_offload(base, execution_device=torch.device("cpu"))
    assert torch.equal(without_adapter(base)(**inputs).logits, bare)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CD(), "needs an amateur, got None"),
        (CD(amateur="base"), "this model has no adapter"),
    ],
)
def test_a_missing_amateur_or_adapter_is_refused(method, message, llama, inputs):
    with pytest.raises(ValueError, match=message):
        generate(llama, inputs, method, **GREEDY)


def test_a_merged_adapter_is_refused(adapted, inputs):
    adapted.merge_adapter()
    with pytest.raises(ValueError, match="merged into"):
        generate(adapted, inputs, CD(amateur="base"), **GREEDY)
