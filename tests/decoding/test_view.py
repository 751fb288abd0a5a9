"""The view is token-identical, in float32, to an uncached, unpadded, row-by-row loop."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import pytest
import torch
from accelerate import cpu_offload
from transformers import (
    CompileConfig,
    LlamaForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
    pipeline,
)

from contralign.decoding import CAD, AdaCAD, CutoffOnly, DoLa, Plain, generate, processor, wrap

STEPS = 10
GREEDY = {"max_new_tokens": STEPS, "do_sample": False}
SAMPLE = {"max_new_tokens": STEPS, "do_sample": True, "top_k": 0}
BEAMS = {**GREEDY, "num_beams": 3, "return_dict_in_generate": True, "output_scores": True}
TEXT = [
    "llama",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "mixtral",
    "gpt2",
    "lfm2",
    "qwen3_next",
    "falcon_h1",
    "mamba",
]


def new_tokens(sequences, inputs):
    return sequences[:, inputs["input_ids"].shape[1] :].tolist()


def first_token_scores(model, *given):
    options = {"max_new_tokens": 1, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    return generate(model, *given, **options).logits[0]


@pytest.fixture
def batch(prompts, left_padded):
    mains, contrasts = prompts
    return left_padded(mains), left_padded(contrasts)


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("execution", ["merged", "sequential"])
def test_greedy_equals_the_uncached_loop(name, execution, tiny, prompts, batch, naive):
    model, (inputs, branch) = tiny(name), batch
    ours = generate(model, inputs, CAD(0.7), branch, execution, **GREEDY)
    reference = naive([model, model], prompts, CAD(0.7).rule, STEPS)
    assert new_tokens(ours, inputs) == reference
    assert reference != new_tokens(model.generate(**inputs, **GREEDY), inputs)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_next"])
@pytest.mark.parametrize("execution", ["merged", "sequential"])
def test_sampling_draws_what_the_uncached_loop_draws(name, execution, tiny, prompts, batch, naive):
    model, (inputs, branch) = tiny(name), batch
    torch.manual_seed(5)
    ours = generate(model, inputs, AdaCAD(), branch, execution, **SAMPLE)
    assert new_tokens(ours, inputs) == naive([model] * 2, prompts, AdaCAD().rule, STEPS, seed=5)


@pytest.mark.parametrize("method", [Plain(), CutoffOnly(0.3)])
def test_baselines_take_no_branch(method, llama, prompts, batch, naive):
    inputs, _ = batch
    torch.manual_seed(2)
    ours = generate(llama, inputs, method, **SAMPLE)
    assert new_tokens(ours, inputs) == naive([llama], prompts[:1], method.rule, STEPS, seed=2)


def test_rows_that_end_early_are_padded(llama, prompts, batch, naive):
    inputs, branch = batch
    free = naive([llama, llama], prompts, CAD().rule, STEPS)
    eos = free[1][3]
    ours = generate(llama, inputs, CAD(), branch, **GREEDY, eos_token_id=eos)
    ours = new_tokens(ours, inputs)
    reference = naive([llama, llama], prompts, CAD().rule, STEPS, eos=eos)
    assert [row[: len(ours[0])] for row in reference] == ours
    assert 0 in ours[1]


def test_equal_lengths_need_no_mask(own_llama, prompts, naive):
    """Attention without a mask may use its fastest kernels."""
    main, contrast = prompts[0][:1], [[*prompts[0][0][:-1], 7]]
    masks = []
    own_llama.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    inputs, branch = ({"input_ids": torch.tensor(rows)} for rows in (main, contrast))
    ours = generate(own_llama, inputs, CAD(), branch, "merged", **GREEDY)
    assert masks[2:] == [None] * (STEPS - 1)
    assert new_tokens(ours, inputs) == naive([own_llama] * 2, [main, contrast], CAD().rule, STEPS)


def test_merged_execution_runs_one_forward_a_step(own_llama, batch):
    inputs, branch = batch
    rows = []
    own_llama.model.layers[0].register_forward_hook(lambda *call: rows.append(len(call[2])))
    generate(own_llama, inputs, CAD(), branch, "merged", **GREEDY)
    assert rows == [3, 3] + [6] * (STEPS - 1)


@pytest.mark.parametrize("name", ["llama", "gemma2", "lfm2", "falcon_h1", "mamba", "t5"])
@pytest.mark.parametrize("options", [{}, {"num_return_sequences": 2}, {"do_sample": True}])
def test_beams_of_view_and_processor_agree(name, options, tiny, batch):
    model, (inputs, branch) = tiny(name), batch
    options = {**BEAMS, "top_k": 0, **options}
    torch.manual_seed(3)
    ours = generate(model, inputs, CAD(), branch, **options)
    torch.manual_seed(3)
    other = processor(model, inputs, CAD(), branch)
    theirs = model.generate(**inputs, logits_processor=[other], **options)
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)


def test_merged_and_sequential_beams_agree(llama, batch):
    inputs, branch = batch
    merged, sequential = (
        generate(llama, inputs, CAD(), branch, execution, **BEAMS)
        for execution in ("merged", "sequential")
    )
    assert torch.equal(merged.sequences, sequential.sequences)


def test_beam_search_sums_the_log_probs_of_the_rule(llama, prompts, left_padded):
    main, contrast = prompts[0][:1], prompts[1][:1]
    inputs = left_padded(main)
    found = generate(llama, inputs, CAD(), left_padded(contrast), **BEAMS, length_penalty=0.0)
    tokens = new_tokens(found.sequences, inputs)[0]
    total = 0.0
    with torch.no_grad():
        for i, token in enumerate(tokens):
            read = [torch.tensor([p[0] + tokens[:i]]) for p in (main, contrast)]
            logits = [llama(ids).logits[0, -1] for ids in read]
            total += CAD().rule(*logits).log_softmax(-1)[token].item()
    assert found.sequences_scores[0].item() == pytest.approx(total, abs=1e-4)


def test_return_sequences_are_rows_of_their_own(llama, prompts, batch, naive):
    inputs, branch = batch
    torch.manual_seed(4)
    ours = generate(llama, inputs, CAD(), branch, **SAMPLE, num_return_sequences=2)
    repeated = [[row for row in rows for _ in range(2)] for rows in prompts]
    assert new_tokens(ours, inputs) == naive([llama] * 2, repeated, CAD().rule, STEPS, seed=4)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2"])
@pytest.mark.parametrize("execution", ["merged", "sequential"])
@pytest.mark.parametrize("drafter", ["prompt lookup", "small model", "the model itself"])
def test_drafted_tokens_change_nothing(name, execution, drafter, tiny, prompts, left_padded, naive):
    model = tiny(name)
    # A prompt that repeats itself gives prompt lookup something to find.
    main, contrast = prompts[0][0] * 2, prompts[1][0] * 2
    inputs, branch = left_padded([main]), left_padded([contrast])
    options = {
        "prompt lookup": {"prompt_lookup_num_tokens": 4},
        "small model": {"assistant_model": tiny("llama")},
        "the model itself": {"assistant_model": copy.deepcopy(model)},
    }[drafter]
    ours = generate(model, inputs, CAD(), branch, execution, **GREEDY, **options)
    reference = naive([model] * 2, [[main], [contrast]], CAD().rule, STEPS)
    assert new_tokens(ours, inputs) == reference


def test_accepted_drafts_save_forwards(own_llama, left_padded):
    """Contrast equal to the main prompt: CAD is plain decoding, which its own draft predicts."""
    inputs = left_padded([[5, 6, 7, 8, 9]])
    plain = own_llama.generate(**inputs, **GREEDY)
    drafter = copy.deepcopy(own_llama)
    forwards = []
    own_llama.model.layers[0].register_forward_hook(lambda *call: forwards.append(1))
    ours = generate(own_llama, inputs, CAD(), inputs, "merged", **GREEDY, assistant_model=drafter)
    assert torch.equal(ours, plain)
    assert len(forwards) < STEPS


def test_drafting_on_recurrent_layers_is_refused(tiny, prompts, left_padded):
    inputs, branch = left_padded(prompts[0][:1]), left_padded(prompts[1][:1])
    with pytest.raises(ValueError, match="assisted"):
        generate(tiny("qwen3_next"), inputs, CAD(), branch, **GREEDY, prompt_lookup_num_tokens=3)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2", "falcon_h1", "qwen3_next"])
@pytest.mark.parametrize(
    "options",
    [
        {"prefill_chunk_size": 4},
        {"cache_implementation": "static"},
        {"cache_implementation": "static", "prefill_chunk_size": 4},
    ],
    ids=["chunked", "static", "both"],
)
def test_cache_options_change_nothing(name, options, tiny, prompts, batch, naive):
    model, (inputs, branch) = tiny(name), batch
    ours = generate(model, inputs, CAD(), branch, "merged", **GREEDY, **options)
    assert new_tokens(ours, inputs) == naive([model] * 2, prompts, CAD().rule, STEPS)


def test_static_beams_equal_dynamic_beams(llama, batch):
    inputs, branch = batch
    dynamic = generate(llama, inputs, CAD(), branch, **BEAMS)
    static = generate(llama, inputs, CAD(), branch, **BEAMS, cache_implementation="static")
    assert torch.equal(dynamic.sequences, static.sequences)


def test_a_compiled_decode_step_holds_all_branches(own_llama, prompts, batch, naive):
    inputs, branch = batch
    seen = []

    def backend(graph, examples):
        seen.append({tuple(x.shape) for x in examples if isinstance(x, torch.Tensor)})
        return graph.forward

    config = CompileConfig(backend=backend, mode=None)
    config._compile_all_devices = True
    options = {**GREEDY, "cache_implementation": "static", "compile_config": config}
    ours = generate(own_llama, inputs, CAD(), branch, **options)
    assert new_tokens(ours, inputs) == naive([own_llama] * 2, prompts, CAD().rule, STEPS)
    assert len(seen) == 1
    assert (6, 1) in seen[0]


@pytest.mark.parametrize("execution", ["auto", "sequential"])
def test_encoder_decoders_differ_in_what_the_encoder_reads(execution, tiny, prompts, batch, naive):
    t5, (inputs, branch) = tiny("t5"), batch
    ours = generate(t5, inputs, CAD(), branch, execution, **GREEDY)
    assert ours[:, 1:].tolist() == naive([t5, t5], prompts, CAD().rule, STEPS)


def test_stop_strings_criteria_and_streamers_see_the_main_rows(llama, batch):
    class AtFive(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            stop = input_ids.shape[1] >= batch[0]["input_ids"].shape[1] + 5
            return torch.full((len(input_ids),), stop)

    class Recorder:
        shapes, ended = [], False

        def put(self, value):
            self.shapes.append(tuple(value.shape))

        def end(self):
            self.ended = True

    inputs, branch = batch
    streamer = Recorder()
    ours = generate(
        llama,
        inputs,
        CAD(),
        branch,
        **GREEDY,
        streamer=streamer,
        stopping_criteria=StoppingCriteriaList([AtFive()]),
    )
    assert ours.shape[1] == inputs["input_ids"].shape[1] + 5
    assert streamer.shapes == [(3, 23)] + [(3,)] * 5
    assert streamer.ended


def test_returned_states_are_the_main_rows(llama, batch):
    inputs, branch = batch
    found = generate(
        llama,
        inputs,
        CAD(),
        branch,
        **GREEDY,
        return_dict_in_generate=True,
        output_hidden_states=True,
        output_logits=True,
    )
    assert found.past_key_values is None
    assert {len(layer) for step in found.hidden_states for layer in step} == {3}
    assert {tuple(step.shape) for step in found.logits} == {(3, 128)}


def test_a_view_can_generate_again_and_leaves_the_model_alone(llama, batch):
    inputs, branch = batch
    before = set(llama.__dict__)
    view = wrap(llama, CAD(), branch)
    first, second = (view.generate(**inputs, **GREEDY) for _ in range(2))
    assert torch.equal(first, second)
    assert set(llama.__dict__) == before
    assert isinstance(view, type(llama))


def test_two_threads_can_decode_with_one_model(llama, batch):
    inputs, branch = batch
    methods = [CAD(0.0), CAD(1.5)] * 3
    alone = [generate(llama, inputs, method, branch, **GREEDY) for method in methods[:2]]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda m: generate(llama, inputs, m, branch, **GREEDY), methods))
    assert all(torch.equal(x, alone[i % 2]) for i, x in enumerate(found))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_errors_are_those_of_the_branches(dtype, llama, batch):
    """The rule runs in float32: |error| <= (1 + alpha) |expert's| + alpha |contrast's|."""
    half = copy.deepcopy(llama).to(dtype)
    inputs, branch = batch

    def error(*given):
        scores = [first_token_scores(model, *given) for model in (half, llama)]
        return (scores[0] - scores[1]).abs()

    bound = 1.5 * error(inputs, Plain()) + 0.5 * error(branch, Plain())
    assert (error(inputs, CAD(), branch) <= bound + 1e-5).all()


def test_accelerate_hooks_keep_working(own_llama, prompts, batch, naive):
    inputs, branch = batch
    reference = naive([own_llama] * 2, prompts, CAD().rule, STEPS)
    cpu_offload(own_llama, execution_device=torch.device("cpu"))
    assert new_tokens(generate(own_llama, inputs, CAD(), branch, **GREEDY), inputs) == reference


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_dola_reads_early_layers_of_the_same_forward(name, tiny, prompts, batch):
    model, (inputs, _) = tiny(name), batch
    method = DoLa(layers=(0, 1))
    ours = new_tokens(generate(model, inputs, method, **GREEDY), inputs)
    for row, prompt in zip(ours, prompts[0], strict=True):
        for i, token in enumerate(row):
            with torch.no_grad():
                out = model(torch.tensor([prompt + row[:i]]), output_hidden_states=True)
                early = [model.lm_head(out.hidden_states[layer][0, -1]) for layer in (0, 1)]
            assert method.rule(out.logits[0, -1], *early).argmax() == token


def test_dola_beams_drafts_and_chunks_agree_with_plain_steps(llama, prompts, left_padded):
    inputs, method = left_padded(prompts[0][:1]), DoLa(layers=(1, 2))
    reference = generate(llama, inputs, method, **GREEDY)
    for options in ({"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 4}):
        assert torch.equal(generate(llama, inputs, method, **GREEDY, **options), reference)
    beams = generate(llama, inputs, method, **BEAMS)
    other = processor(llama, inputs, method)
    theirs = llama.generate(**inputs, logits_processor=[other], **BEAMS)
    assert torch.equal(beams.sequences, theirs.sequences)


def test_dola_reads_an_offloaded_head(own_llama, batch):
    method = DoLa(layers=(0, 1))
    expected = generate(own_llama, batch[0], method, **GREEDY)
    cpu_offload(own_llama, execution_device=torch.device("cpu"))
    assert torch.equal(generate(own_llama, batch[0], method, **GREEDY), expected)


def test_dola_caps_early_logits_as_the_model_caps_its_own(tiny, prompts, batch):
    model = copy.deepcopy(tiny("gemma2"))
    model.config.final_logit_softcapping = 0.5
    method = DoLa(layers=(1,))
    ours = new_tokens(generate(model, batch[0], method, **GREEDY), batch[0])
    with torch.no_grad():
        out = model(torch.tensor(prompts[0][:1]), output_hidden_states=True)
    early = 0.5 * torch.tanh(model.lm_head(out.hidden_states[1][0, -1]) / 0.5)
    assert method.rule(out.logits[0, -1], early).argmax() == ours[0][0]


def test_dola_is_refused_where_the_head_is_not_all(llama, batch):
    class Doubling(LlamaForCausalLM):
        @wraps(LlamaForCausalLM.forward)
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = 2 * out.logits
            return out

    with pytest.raises(ValueError, match="Doubling does something to its last hidden state"):
        generate(Doubling(llama.config).eval(), batch[0], DoLa(layers=(1,)), **GREEDY)


def test_pipelines_take_a_view(llama, tokenizer):
    inputs = tokenizer(["abcdef"], return_tensors="pt")
    branch = tokenizer(["cdef"], return_tensors="pt")
    text = pipeline("text-generation", model=wrap(llama, CAD(), branch), tokenizer=tokenizer)
    found = text("abcdef", return_full_text=False, **GREEDY)[0]["generated_text"]
    ours = generate(llama, inputs, CAD(), branch, **GREEDY)[0, 6:]
    assert found == tokenizer.decode(ours, skip_special_tokens=True)


def test_stop_strings_end_a_row(llama, tokenizer):
    inputs = tokenizer(["abcdef"], return_tensors="pt")
    branch = tokenizer(["cdef"], return_tensors="pt")
    free = generate(llama, inputs, CAD(), branch, **GREEDY)[0, 6:].tolist()
    end = next(i for i, token in enumerate(free) if i and tokenizer.decode(token).isalnum())
    options = {"stop_strings": [tokenizer.decode(free[end])], "tokenizer": tokenizer}
    found = generate(llama, inputs, CAD(), branch, **GREEDY, **options)
    assert found[0, 6:].tolist() == free[: end + 1]
