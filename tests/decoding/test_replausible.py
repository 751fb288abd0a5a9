"""Bans that forbid every plausible token leave the plausible among the allowed, not token 0."""

from __future__ import annotations

import pytest
import torch

from contralign.decoding import CutoffOnly, generate

ONE = CutoffOnly(1.0)  # only the most probable token is plausible


@pytest.fixture
def batch(prompts, left_padded):
    return left_padded(prompts[0])


def best_allowed(model, inputs, banned):
    with torch.no_grad():
        logits = model(**inputs).logits[:, -1]
    logits[:, banned] = -torch.inf
    return logits.argmax(-1).tolist()


def firsts(model, inputs):
    return best_allowed(model, inputs, [])


@pytest.mark.parametrize("sample", [False, True])
def test_bad_words_leave_the_next_plausible_token(sample, llama, batch):
    banned = firsts(llama, batch)
    options = {"max_new_tokens": 1, "do_sample": sample, "bad_words_ids": [[t] for t in banned]}
    found = generate(llama, batch, ONE, **options)[:, -1].tolist()
    assert found == best_allowed(llama, batch, banned)
    assert 0 not in found


def test_min_new_tokens_bans_the_only_plausible_token(llama, batch):
    eos = firsts(llama, batch)[0]
    options = {"max_new_tokens": 2, "min_new_tokens": 2, "eos_token_id": eos, "do_sample": False}
    found = generate(llama, batch, ONE, **options)[:, batch["input_ids"].shape[1]].tolist()
    assert found == best_allowed(llama, batch, [eos])


def test_beams_return_sequences_under_ngram_bans(llama, batch):
    options = {"max_new_tokens": 12, "num_beams": 3, "do_sample": False, "no_repeat_ngram_size": 1}
    found = generate(llama, batch, ONE, **options, num_return_sequences=3)
    for row in found[:, batch["input_ids"].shape[1] :].tolist():
        assert len(row) == 12
        assert len(set(row)) == 12


def test_rows_with_a_plausible_token_left_are_untouched(llama, batch):
    banned = firsts(llama, batch)[:1]
    options = {"max_new_tokens": 1, "do_sample": False, "bad_words_ids": [banned]}
    found = generate(llama, batch, ONE, **options)[:, -1].tolist()
    assert found[1:] == firsts(llama, batch)[1:]


def test_drafted_positions_each_form_their_own_set(llama, prompts, left_padded):
    inputs = left_padded([prompts[0][0] * 2])
    options = {"max_new_tokens": 12, "do_sample": False, "no_repeat_ngram_size": 2}
    plain = generate(llama, inputs, ONE, **options)
    drafted = generate(llama, inputs, ONE, **options, prompt_lookup_num_tokens=4)
    assert torch.equal(plain, drafted)


def test_bans_that_leave_no_token_are_an_error(llama, batch):
    everything = list(range(128))
    with pytest.raises(ValueError, match="leave no token at all to rows"):
        generate(llama, batch, ONE, max_new_tokens=1, do_sample=False, suppress_tokens=everything)


@pytest.mark.parametrize("beams", [1, 3])
def test_an_allowed_list_leaves_its_most_plausible_token(beams, llama, batch):
    """transformers makes ties of 0 of a list whose tokens are all ruled out."""
    allowed = [set(range(128)) - {token} - set(range(40)) for token in firsts(llama, batch)]
    options = {"max_new_tokens": 1, "do_sample": False, "num_beams": beams}
    options["prefix_allowed_tokens_fn"] = lambda row, ids: sorted(allowed[row])
    found = generate(llama, batch, ONE, **options)[:, -1].tolist()
    for row, token in enumerate(found):
        banned = [x for x in range(128) if x not in allowed[row]]
        assert token == best_allowed(llama, batch, banned)[row]
