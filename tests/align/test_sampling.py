"""Samples of the policy: an exact draw, the same whatever batch it is made in."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from align_models import MODELS, UNPACKABLE, VOCAB, made, ragged
from align_policies import policy
from transformers import GenerationConfig

from contralign.align.batch import Batch
from contralign.align.sampling import InverseTransform, Sampling, stops

PROMPTS = ragged()
DRAW = Sampling(k=3, longest=6, temperature=1.0, stops=(2,), pad=0, seed=3)
BUILDERS: dict[str, Any] = {
    **{name: MODELS[name] for name in ("llama", "gpt2", "gemma3", "mixtral")},
    "bloom": UNPACKABLE["bloom"][0],
}


@torch.no_grad()
def by_hand(model: Any, sampling: Sampling, prompts: Batch, moment: str) -> list[Any]:
    """The same draw, one sequence at a time, without cache, padding or generate."""
    noise = sampling.noise(prompts, moment)
    rows = []
    for number, prompt in enumerate(prompts.prompts):
        for uniform in noise[number * sampling.k :][: sampling.k].tolist():
            said: list[int] = []
            while len(said) < sampling.longest and not {*said} & {*sampling.stops}:
                ids = torch.tensor([[*prompt, *said]])
                logits = model(input_ids=ids, use_cache=False).logits[0, -1].double()
                shares = (logits / sampling.temperature).softmax(-1).tolist()
                sums = accumulate(shares)
                place = uniform[len(said)]
                said.append(next(token for token, sum_ in enumerate(sums) if place < sum_))
            rows.append(said)
    return [rows[i : i + sampling.k] for i in range(0, len(rows), sampling.k)]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_is_an_exact_draw(name: str, temperature: float) -> None:
    model = made(BUILDERS[name])
    sampling = replace(DRAW, temperature=temperature, stops=(2, *range(10, 20)))
    drawn = sampling(model, PROMPTS, "update 0")
    assert drawn.completions == by_hand(model, sampling, PROMPTS, "update 0")
    assert len({len(ids) for ids in drawn.flat}) > 1
    assert drawn.prompts == PROMPTS.prompts


def test_an_adapter_is_on_and_modes_come_back() -> None:
    model = policy()
    model.train()
    drawn = DRAW(model, PROMPTS, "update 0")
    assert model.training
    assert drawn.completions == by_hand(model.eval(), DRAW, PROMPTS, "update 0")
    with model.disable_adapter():
        assert drawn.completions != by_hand(model, DRAW, PROMPTS, "update 0")


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model = made(MODELS["llama"])
    together = DRAW(model, PROMPTS, "update 0").completions
    for number, prompt in enumerate(PROMPTS.prompts):
        alone = DRAW(model, Batch([prompt], [[]]), "update 0")
        assert alone.completions == [together[number]]
    for other in (DRAW(model, PROMPTS, "update 1"), replace(DRAW, seed=4)(model, PROMPTS, "u")):
        assert other.completions != together


def test_pictures_have_noise_of_their_own() -> None:
    same = Batch([[5, 6]] * 2, [[]] * 2, [{"pixel_values": torch.full((1, 2), x)} for x in (0, 1)])
    first, second = DRAW.noise(same, "update 0").split(3)
    assert not torch.equal(first, second)
    bare = replace(same, images=())
    first, second = DRAW.noise(bare, "update 0").split(3)
    assert torch.equal(first, second)


def test_a_pictures_place_is_never_said() -> None:
    model = made(MODELS["llama"])
    before = {token for ids in DRAW(model, PROMPTS, "update 0").flat for token in ids}
    place = max(before - {2})
    model.config.image_token_id = place
    after = {token for ids in DRAW(model, PROMPTS, "update 0").flat for token in ids}
    assert place not in after
    assert after & before


def test_the_models_own_generation_config_is_left_out_and_comes_back() -> None:
    model = made(MODELS["llama"])
    expected = DRAW(model, PROMPTS, "update 0").completions
    own = GenerationConfig(do_sample=True, top_k=1, repetition_penalty=9.0, eos_token_id=[2])
    model.generation_config = own
    assert DRAW(model, PROMPTS, "update 0").completions == expected
    assert model.generation_config is own


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_shares_of_the_unit_interval_are_the_probabilities(temperature: float) -> None:
    scores = torch.tensor([-torch.inf, 0.3, -1.0, 2.0, -torch.inf])
    count = 1000
    uniform = ((torch.arange(count) + 0.5) / count).double()[:, None]
    drawn = InverseTransform(uniform, 4, temperature)(
        torch.zeros(count, 4).long(), scores.expand(count, -1)
    )
    shares = torch.bincount(drawn.argmax(-1), minlength=5) / count
    assert torch.allclose(shares, (scores / temperature).softmax(-1), atol=1 / count)
    assert (drawn > -torch.inf).sum(-1).eq(1).all()
    for edge in (0.0, 1 - 2**-53):
        ends = InverseTransform(torch.tensor([[edge]]).double(), 4)(
            torch.zeros(1, 4).long(), scores[None]
        )
        assert scores[ends.argmax()] > -torch.inf


def test_what_ends_a_completion_is_the_tokenizers_and_the_models() -> None:
    model = made(MODELS["llama"])
    tokenizer = type("Tokenizer", (), {"eos_token_id": VOCAB - 1})()
    model.generation_config = GenerationConfig(eos_token_id=[2, 7])
    assert stops(model, tokenizer) == (2, 7, VOCAB - 1)
    model.generation_config = GenerationConfig(eos_token_id=2)
    assert stops(model, tokenizer) == (2, VOCAB - 1)
