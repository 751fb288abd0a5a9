"""CUDA gives the tokens of the CPU's loop, wherever layers, prompts, amateurs and caches live."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from accelerate import dispatch_model
from peft import LoraConfig, get_peft_model

from contralign.decoding import (
    CAD,
    AdaCAD,
    CutoffOnly,
    DoLa,
    ImprovedCD,
    Plain,
    generate,
    parse,
    processor,
    score,
)
from contralign.eval import Ask, KeyedSampling, LanguageModel

pytestmark = pytest.mark.gpu

STEPS = 10
GREEDY = {"max_new_tokens": STEPS, "do_sample": False}
BEAMS = {**GREEDY, "num_beams": 3, "return_dict_in_generate": True, "output_scores": True}
CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
NAMES = ["llama", "gpt2", "mistral", "gemma2"]
EXECUTIONS = ["merged", "sequential"]


def new_tokens(sequences, inputs):
    return sequences[:, inputs["input_ids"].shape[1] :].tolist()


def moved(inputs, device):
    return {key: x.to(device) for key, x in inputs.items()}


def named(devices):
    return " and ".join(device.type for device in devices)


class Reader:
    """What the naive loop calls: takes ids from the CPU to the model."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def __call__(self, ids, **options):
        return self.model(ids.to(self.model.device), **options)


@pytest.fixture
def batch(prompts, left_padded):
    mains, contrasts = prompts
    return left_padded(mains), left_padded(contrasts)


@pytest.fixture
def on_cuda(tiny):
    return lambda name: copy.deepcopy(tiny(name)).to(CUDA)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_greedy_gives_the_tokens_of_the_cpu_loop(
    name, execution, tiny, on_cuda, prompts, batch, naive
):
    inputs, branch = (moved(given, CUDA) for given in batch)
    ours = generate(on_cuda(name), inputs, CAD(0.7), branch, execution, **GREEDY)
    assert ours.device == CUDA
    assert new_tokens(ours, inputs) == naive([tiny(name)] * 2, prompts, CAD(0.7).rule, STEPS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_sampling_draws_what_a_loop_on_the_device_draws(
    name, execution, on_cuda, prompts, batch, naive
):
    model, (inputs, branch) = on_cuda(name), (moved(given, CUDA) for given in batch)
    options = {"max_new_tokens": STEPS, "do_sample": True, "top_k": 0}
    torch.manual_seed(5)
    ours = generate(model, inputs, AdaCAD(), branch, execution, **options)
    reference = naive([Reader(model)] * 2, prompts, AdaCAD().rule, STEPS, seed=5)
    assert new_tokens(ours, inputs) == reference


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_beams_of_view_and_processor_agree(name, execution, on_cuda, batch):
    model, (inputs, branch) = on_cuda(name), (moved(given, CUDA) for given in batch)
    ours = generate(model, inputs, CAD(), branch, execution, **BEAMS)
    other = processor(model, inputs, CAD(), branch)
    theirs = model.generate(**inputs, logits_processor=[other], **BEAMS)
    assert torch.equal(ours.sequences, theirs.sequences)
    torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_half_precision_errors_are_those_of_the_branches(dtype, execution, on_cuda, batch):
    """The rule runs in float32: |error| <= (1 + alpha) |expert's| + alpha |contrast's|."""
    full, half = on_cuda("llama"), on_cuda("llama").to(dtype)
    inputs, branch = (moved(given, CUDA) for given in batch)
    first = {"max_new_tokens": 1, "do_sample": False}
    first |= {"return_dict_in_generate": True, "output_logits": True}

    def error(given, method, *branch):
        found = [generate(m, given, method, *branch, **first).logits[0] for m in (half, full)]
        return (found[0] - found[1]).abs()

    bound = 1.5 * error(inputs, Plain()) + 0.5 * error(branch, Plain())
    assert (error(inputs, CAD(), branch, execution) <= bound + 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_drafted_tokens_change_nothing(name, execution, tiny, on_cuda, prompts, left_padded, naive):
    main, contrast = prompts[0][0] * 2, prompts[1][0] * 2
    inputs, branch = (moved(left_padded([row]), CUDA) for row in (main, contrast))
    options = {**GREEDY, "prompt_lookup_num_tokens": 4}
    ours = generate(on_cuda(name), inputs, CAD(), branch, execution, **options)
    reference = naive([tiny(name)] * 2, [[main], [contrast]], CAD().rule, STEPS)
    assert new_tokens(ours, inputs) == reference


@pytest.mark.skipif(
    not (shutil.which("gcc") or shutil.which("clang")), reason="torch.compile needs a C compiler"
)
@pytest.mark.filterwarnings("default")  # the compiler warns of what it could do on other GPUs
@pytest.mark.parametrize(
    ("name", "execution"), [("llama", "merged"), ("llama", "sequential"), ("gemma2", "merged")]
)
def test_static_caches_with_cuda_graphs_change_nothing(name, execution, on_cuda, batch):
    """On CUDA, transformers compiles the decode step of a static cache by default."""
    model, (inputs, branch) = on_cuda(name), (moved(given, CUDA) for given in batch)
    dynamic = generate(model, inputs, CAD(), branch, execution, **GREEDY)
    for _ in range(2):  # the second call replays graphs over caches of its own
        static = generate(
            model, inputs, CAD(), branch, execution, **GREEDY, cache_implementation="static"
        )
        assert torch.equal(static, dynamic)
    assert hasattr(model, "_compiled_call")


@pytest.mark.parametrize("kind", ["offloaded", "offloaded_static"])
def test_offloaded_caches_are_read_one_branch_after_the_other(
    kind, llama, on_cuda, prompts, batch, naive
):
    model, (inputs, branch) = on_cuda("llama"), (moved(given, CUDA) for given in batch)
    options = {**GREEDY, "cache_implementation": kind, "disable_compile": True}
    ours = generate(model, inputs, CAD(), branch, **options)
    assert new_tokens(ours, inputs) == naive([llama] * 2, prompts, CAD().rule, STEPS)
    with pytest.raises(ValueError, match="an offloaded cache rules out"):
        generate(model, inputs, CAD(), branch, "merged", **options)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("where", [(CPU, CPU), (CPU, CUDA), (CUDA, CPU)], ids=named)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_prompts_may_stay_on_the_cpu(name, where, execution, tiny, on_cuda, prompts, batch, naive):
    model = on_cuda(name)
    inputs, branch = (moved(given, device) for given, device in zip(batch, where, strict=True))
    reference = naive([tiny(name)] * 2, prompts, CAD().rule, STEPS)
    static = {"cache_implementation": "static", "disable_compile": True}
    for options in (GREEDY, GREEDY | static, GREEDY | {"prefill_chunk_size": 4}):
        ours = generate(model, inputs, CAD(), branch, execution, **options)
        assert ours.device == where[0]
        assert new_tokens(ours, inputs) == reference
    other = processor(model, inputs, CAD(), branch)
    theirs = model.generate(**inputs, **GREEDY, logits_processor=[other])
    assert new_tokens(theirs, inputs) == reference


def test_bans_and_scores_work_with_prompts_on_the_cpu(llama, on_cuda, batch):
    model, (inputs, branch) = on_cuda("llama"), batch
    banned = generate(llama, inputs, Plain(), max_new_tokens=1)[:, -1].tolist()
    options = {**GREEDY, "bad_words_ids": [[token] for token in banned]}
    only = CutoffOnly(1.0)  # the ban leaves no plausible token
    expected = generate(llama, inputs, only, **options)
    assert torch.equal(generate(model, inputs, only, **options), expected)
    answers = [[5, 6, 7], [8], [9, 10]]
    ours, mask = score(model, inputs, answers, CAD(), branch)
    theirs, expected_mask = score(llama, inputs, answers, CAD(), branch)
    assert torch.equal(mask.cpu(), expected_mask)
    torch.testing.assert_close(ours.cpu(), theirs, atol=1e-4, rtol=1e-4)


def test_dola_reads_early_layers_on_the_device(llama, on_cuda, batch):
    method, (inputs, _) = DoLa(layers=(0, 2)), batch
    ours = generate(on_cuda("llama"), moved(inputs, CUDA), method, **GREEDY)
    assert torch.equal(ours.cpu(), generate(llama, inputs, method, **GREEDY))


# Where a tiny Llama's halves live, what executes at the root, and where each half computes.
PLACEMENTS = {
    "weights offloaded": ((0, "cpu"), 0, (CUDA, CUDA)),
    "cpu, then cuda": (("cpu", 0), "cpu", (CPU, CUDA)),
    "two gpus": ((0, 1), 0, (CUDA, torch.device("cuda", 1))),
}


def placed(model, placement):
    """Spread a Llama of four layers over two devices."""
    if placement == "two gpus" and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    (first, second), main, computed = PLACEMENTS[placement]
    names = {"model.embed_tokens": first, "model.rotary_emb": first}
    names |= {f"model.layers.{i}": first if i < 2 else second for i in range(4)}
    names |= {"model.norm": second, "lm_head": second}
    skipped = model._skip_keys_device_placement
    return dispatch_model(model, names, main_device=main, skip_keys=skipped), computed


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_device_map_may_split_the_layers(
    placement, execution, llama, own_llama, prompts, batch, naive
):
    model, computed = placed(own_llama, placement)
    caches = []
    model.register_forward_hook(lambda module, args, out: caches.append(out.past_key_values))
    reference = naive([llama] * 2, prompts, CAD().rule, STEPS)
    for device in {CPU, model.device}:
        inputs, branch = (moved(given, device) for given in batch)
        ours = generate(model, inputs, CAD(), branch, execution, **GREEDY)
        assert new_tokens(ours, inputs) == reference
    rows = 6 if execution == "merged" else 3
    assert [len(layer.keys) for layer in caches[-1].layers] == [rows] * 4
    assert [layer.keys.device for layer in caches[-1].layers] == [
        device for device in computed for _ in range(2)
    ]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_other_methods_and_searches_work_across_devices(placement, llama, own_llama, batch):
    model, _ = placed(own_llama, placement)
    inputs, branch = batch
    for method, given in ((DoLa(layers=(0, 1, 3)), None), (CAD(), branch)):
        found, expected = (
            generate(each, inputs, method, given, **BEAMS).sequences for each in (model, llama)
        )
        assert torch.equal(found, expected)
    static = {"cache_implementation": "static", "disable_compile": True}
    found = generate(model, inputs, CAD(), branch, **GREEDY, **static)
    assert torch.equal(found, generate(llama, inputs, CAD(), branch, **GREEDY))
    other = processor(model, inputs, DoLa(layers=(0, 1, 3)))
    found = model.generate(**inputs, **GREEDY, logits_processor=[other])
    assert torch.equal(found, generate(llama, inputs, DoLa(layers=(0, 1, 3)), **GREEDY))


@pytest.mark.parametrize("where", [(CUDA, CPU), (CPU, CUDA)], ids=named)
def test_an_amateur_keeps_its_device_and_dtype(where, llama, tiny, prompts, batch, naive):
    expert = copy.deepcopy(llama).to(where[0])
    amateur = copy.deepcopy(tiny("gpt2")).to(where[1], torch.float64)
    method = ImprovedCD(amateur=amateur)
    inputs = moved(batch[0], where[0])
    double = copy.deepcopy(tiny("gpt2")).double()
    reference = naive([llama, double], [prompts[0]] * 2, method.rule, STEPS)
    assert new_tokens(generate(expert, inputs, method, **GREEDY), inputs) == reference
    assert (amateur.device, amateur.dtype) == (where[1], torch.float64)
    beams = generate(expert, inputs, method, **BEAMS)
    theirs = expert.generate(
        **inputs, logits_processor=[processor(expert, inputs, method)], **BEAMS
    )
    assert torch.equal(beams.sequences, theirs.sequences)


def test_the_adapter_comes_off_on_cuda(own_llama, llama, prompts, batch, naive):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(own_llama, config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    expert, method = copy.deepcopy(adapted).merge_and_unload(), ImprovedCD(amateur="base")
    reference = naive([expert, llama], [prompts[0]] * 2, method.rule, STEPS)
    inputs = moved(batch[0], CUDA)
    assert new_tokens(generate(adapted.to(CUDA), inputs, method, **GREEDY), inputs) == reference


def test_keyed_noise_is_the_same_on_every_device():
    keyed, ids = KeyedSampling([3, 4], 5), torch.zeros(2, 7, dtype=torch.long)
    on_cpu, on_cuda = (keyed(ids.to(d), torch.zeros(2, 128, device=d)) for d in (CPU, CUDA))
    assert on_cuda.device == CUDA
    assert torch.equal(on_cpu, on_cuda.cpu())


@pytest.mark.parametrize("device", ["cuda", "auto", None])
def test_a_language_model_answers_on_cuda_as_on_the_cpu(device, model_folder):
    asks = [Ask("a b c d", contrast="c d", max_new_tokens=6), Ask("e", "f", max_new_tokens=6)]
    on_cpu = LanguageModel.load(str(model_folder), device="cpu")
    model = LanguageModel.load(str(model_folder), device=device)
    assert model.model.device.type == "cuda"
    assert model.fingerprint["weights"] == on_cpu.fingerprint["weights"]
    for name in ("cad:alpha=1", "adacad@sample", "dola", "cad@beam2"):
        said, expected = (one.answers(asks, parse(name), [1, 2]) for one in (model, on_cpu))
        assert [answer.text for answer in said] == [answer.text for answer in expected]
