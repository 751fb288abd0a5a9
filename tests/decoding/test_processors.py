"""The plain logits processor gives the view's tokens, follows what generate does, or refuses."""

from __future__ import annotations

import copy

import pytest
import torch

from contralign.decoding import CAD, CD, AdaCAD, DoLa, generate, processor

STEPS = 10
GREEDY = {"max_new_tokens": STEPS, "do_sample": False}


@pytest.fixture
def batch(prompts, left_padded):
    mains, contrasts = prompts
    return left_padded(mains), left_padded(contrasts)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "lfm2", "qwen3_next", "mamba", "t5"])
def test_greedy_and_sampling_equal_the_view(name, tiny, batch):
    model, (inputs, branch) = tiny(name), batch
    ours = processor(model, inputs, CAD(), branch)
    for options in (GREEDY, {"max_new_tokens": STEPS, "do_sample": True, "top_p": 0.9}):
        torch.manual_seed(6)
        viewed = generate(model, inputs, CAD(), branch, **options)
        torch.manual_seed(6)
        assert torch.equal(model.generate(**inputs, **options, logits_processor=[ours]), viewed)


def test_it_can_be_used_again(llama, batch):
    inputs, branch = batch
    ours = processor(llama, inputs, AdaCAD(), branch)
    first, second = (llama.generate(**inputs, **GREEDY, logits_processor=[ours]) for _ in range(2))
    assert torch.equal(first, second)


def test_other_prompts_are_refused(llama, batch):
    inputs, branch = batch
    ours = processor(llama, inputs, CAD(), branch)
    with pytest.raises(ValueError, match="made for prompts of shape"):
        llama.generate(**branch, **GREEDY, logits_processor=[ours])


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "lfm2"])
@pytest.mark.parametrize("drafter", ["prompt lookup", "the model itself"])
def test_rejected_drafts_are_rolled_back(name, drafter, tiny, prompts, left_padded):
    model, main = tiny(name), prompts[0][0] * 2
    inputs, branch = left_padded([main]), left_padded([prompts[1][0] * 2])
    drafts = {
        "prompt lookup": {"prompt_lookup_num_tokens": 4},
        "the model itself": {"assistant_model": copy.deepcopy(model)},
    }[drafter]
    ours = processor(model, inputs, CAD(), branch)
    found = model.generate(**inputs, **GREEDY, **drafts, logits_processor=[ours])
    assert torch.equal(found, generate(model, inputs, CAD(), branch, **GREEDY))


def test_beam_search_reads_no_prompt_twice(own_llama, batch):
    inputs, branch = batch
    lengths = []
    own_llama.model.layers[0].register_forward_hook(
        lambda module, args, out: lengths.append(out.shape[1])
    )
    ours = processor(own_llama, inputs, CAD(), branch)
    own_llama.generate(**inputs, **GREEDY, num_beams=3, logits_processor=[ours])
    assert sorted(lengths)[-3:] == [1, 12, 23]


def test_dola_and_an_amateur_work_as_processors(llama, tiny, batch):
    inputs, _ = batch
    for method in (DoLa(layers=(0, 2)), CD(amateur=tiny("gpt2")), CD(amateur=llama)):
        ours = processor(llama, inputs, method)
        found = llama.generate(**inputs, **GREEDY, logits_processor=[ours])
        assert torch.equal(found, generate(llama, inputs, method, **GREEDY))


def test_penalties_come_before_it_and_after_the_view(llama, batch):
    """Documented: generate applies its own penalties first, so the two may differ then."""
    inputs, branch = batch
    options = {**GREEDY, "max_new_tokens": 40, "repetition_penalty": 1.8}
    ours = processor(llama, inputs, CAD(2.0), branch)
    found = llama.generate(**inputs, **options, logits_processor=[ours])
    assert not torch.equal(found, generate(llama, inputs, CAD(2.0), branch, **options))
