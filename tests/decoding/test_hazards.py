"""Each of these once gave other tokens, silently, or broke: the engine must do right or refuse."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BartConfig,
    BartForCausalLM,
    GenerationConfig,
    GenerationMixin,
    Phi3Config,
    Phi3ForCausalLM,
)

from contralign.decoding import CAD, CutoffOnly, ImprovedCD, Plain, generate, processor, score

STEPS = 8
GREEDY = {"max_new_tokens": STEPS, "do_sample": False}


@pytest.fixture
def batch(prompts, left_padded):
    return left_padded(prompts[0]), left_padded(prompts[1])


def alone(model):
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model.eval()


def test_a_generate_put_on_the_model_itself_is_refused(own_llama, batch):
    own_llama.generate = functools.partial(GenerationMixin.generate, own_llama)
    with pytest.raises(ValueError, match="has a generate of its own"):
        generate(own_llama, batch[0], CAD(), batch[1], **GREEDY)


@pytest.mark.parametrize(("main", "contrast"), [(30, 4), (4, 30)])
def test_rotary_embeddings_of_the_longest_row_are_not_merged(main, contrast, left_padded, naive):
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        original_max_position_embeddings=16,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
        },
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        initializer_range=0.3,
    )
    model = alone(Phi3ForCausalLM(config))
    rows = [[list(range(3, 3 + main))], [list(range(40, 40 + contrast))]]
    inputs, branch = map(left_padded, rows)
    ours = generate(model, inputs, CAD(), branch, **GREEDY)
    assert ours[:, main:].tolist() == naive([model] * 2, rows, CAD().rule, STEPS)
    with pytest.raises(ValueError, match="depends on the longest row rules out"):
        generate(model, inputs, CAD(), branch, "merged", **GREEDY)


@pytest.mark.parametrize(("main", "contrast"), [(17, 5), (5, 17)])
def test_positions_counted_in_the_cache_are_not_merged(main, contrast, left_padded, naive):
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=128,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        init_std=0.3,
        pad_token_id=0,
        eos_token_id=None,
        is_decoder=True,
        is_encoder_decoder=False,
    )
    model = alone(BartForCausalLM(config))
    rows = [[list(range(3, 3 + main))], [list(range(40, 40 + contrast))]]
    inputs, branch = map(left_padded, rows)
    ours = generate(model, inputs, CAD(), branch, **GREEDY)
    assert ours[:, main:].tolist() == naive([model] * 2, rows, CAD().rule, STEPS)


@pytest.mark.parametrize("drafter", ["prompt_lookup_num_tokens", "assistant_model"])
def test_rejected_drafts_leave_the_encoder_mask_alone(drafter, tiny):
    t5 = tiny("t5")
    inputs = {"input_ids": torch.tensor([[9, 8, 9, 8, 9, 8]])}
    branch = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
    }
    draft = {drafter: 3 if drafter == "prompt_lookup_num_tokens" else copy.deepcopy(t5)}
    plain = generate(t5, inputs, CAD(1.0), branch, **GREEDY)
    assert torch.equal(generate(t5, inputs, CAD(1.0), branch, **GREEDY, **draft), plain)


def test_the_decoders_first_token_is_every_branchs(tiny, batch):
    t5, (inputs, branch) = tiny("t5"), batch
    seven = copy.deepcopy(t5)
    seven.generation_config.decoder_start_token_id = 7
    expected = generate(seven, inputs, CAD(1.0), branch, **GREEDY)
    options = {**GREEDY, "decoder_start_token_id": 7}
    assert torch.equal(generate(t5, inputs, CAD(1.0), branch, **options), expected)
    added = processor(t5, inputs, CAD(1.0), branch)
    assert torch.equal(t5.generate(**inputs, **options, logits_processor=[added]), expected)


@pytest.mark.parametrize("main", [13, 14, 15, 16])
def test_drafts_are_read_whole_whatever_the_chunk(main, llama, left_padded):
    inputs = left_padded([[4, 5, 6] * 6])
    inputs = {key: x[:, :main] for key, x in inputs.items()}
    branch = {key: x[:, : main - 1] for key, x in inputs.items()}
    plain = generate(llama, inputs, CAD(), branch, **GREEDY)
    options = {"prompt_lookup_num_tokens": 3, "prefill_chunk_size": 4}
    assert torch.equal(generate(llama, inputs, CAD(), branch, **GREEDY, **options), plain)


def test_token_types_are_each_branchs_own(tiny, prompts, left_padded):
    gpt2 = tiny("gpt2")
    inputs, branch = (left_padded(rows[:1]) for rows in prompts)
    inputs["token_type_ids"] = torch.arange(inputs["input_ids"].shape[1])[None] % 5
    branch["token_type_ids"] = torch.full_like(branch["input_ids"], 9)
    options = {**GREEDY, "return_dict_in_generate": True, "output_scores": True}
    merged, sequential = (
        generate(gpt2, inputs, CAD(), branch, execution, **options)
        for execution in ("merged", "sequential")
    )
    torch.testing.assert_close(torch.stack(merged.scores), torch.stack(sequential.scores))
    answer = merged.sequences[:, inputs["input_ids"].shape[1] :]
    reported = torch.stack([step.log_softmax(-1).max(-1).values for step in merged.scores], dim=1)
    torch.testing.assert_close(score(gpt2, inputs, answer.tolist(), CAD(), branch)[0], reported)
    del branch["token_type_ids"]
    with pytest.raises(ValueError, match="token_type_ids that only some branches have"):
        generate(gpt2, inputs, CAD(), branch, "merged", **GREEDY)


def test_a_ban_after_the_cutoff_survives_remove_invalid_values(llama, batch):
    best = llama(**batch[0]).logits[:, -1].argmax(-1).tolist()
    options = {"max_new_tokens": 1, "do_sample": False, "bad_words_ids": [[t] for t in best]}
    plain = generate(llama, batch[0], CutoffOnly(1.0), **options)
    cleaned = generate(llama, batch[0], CutoffOnly(1.0), **options, remove_invalid_values=True)
    assert torch.equal(plain, cleaned)


def test_the_adapter_comes_off_compiled_layers(own_llama, batch):
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(own_llama, config).eval()
    method = ImprovedCD(amateur="base", beta=3.0)
    expected = generate(adapted, batch[0], method, **GREEDY)
    for layer in own_llama.model.layers:
        layer.compile(backend="eager")
    assert torch.equal(generate(adapted, batch[0], method, **GREEDY), expected)
    assert not torch.equal(generate(adapted, batch[0], Plain(), **GREEDY), expected)


def test_padding_that_nothing_marks_is_refused(llama):
    row = {"input_ids": torch.tensor([[0, 0, 5, 6]])}
    with pytest.raises(ValueError, match="holds the pad token 0 and no attention_mask"):
        generate(llama, row, Plain(), **GREEDY)


def test_an_encoder_decoders_processor_checks_its_rows(tiny, batch):
    t5, (inputs, branch) = tiny("t5"), batch
    added = processor(t5, inputs, CAD(), branch)
    other = {key: x[:2] for key, x in inputs.items()}
    with pytest.raises(ValueError, match="made for prompts of shape"):
        t5.generate(**other, **GREEDY, logits_processor=[added])
    bare = processor(t5, inputs, Plain())
    found = t5.generate(**inputs, **GREEDY, logits_processor=[bare])
    assert torch.equal(found, t5.generate(**inputs, **GREEDY))


def test_attentions_of_unequal_prompts_are_those_of_the_main_one(own_llama, batch):
    own_llama.set_attn_implementation("eager")
    options = {**GREEDY, "return_dict_in_generate": True, "output_attentions": True}
    plain = generate(own_llama, batch[1], Plain(), **options)
    ours = generate(own_llama, batch[1], CAD(), batch[0], **options)
    widths = [[layer.shape for layer in step] for step in plain.attentions]
    assert [[layer.shape for layer in step] for step in ours.attentions] == widths
