"""Teacher-forced scores equal a loop of plain forwards, answer by answer and token by token."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding import CAD, CutoffOnly, DoLa, Plain, first_token, generate, score

ANSWERS = [[5, 9, 11], [7], [3, 4]]


@pytest.fixture
def batch(prompts, left_padded):
    mains, contrasts = prompts
    return left_padded(mains), left_padded(contrasts)


@torch.no_grad()
def loop(model, method, branches, answer):
    logps = []
    for i, token in enumerate(answer):
        logits = []
        for prompt in branches:
            if model.config.is_encoder_decoder:
                out = model(
                    torch.tensor([prompt]), decoder_input_ids=torch.tensor([[0, *answer[:i]]])
                )
            else:
                out = model(torch.tensor([prompt + answer[:i]]))
            logits.append(out.logits[0, -1])
        logps.append(method.rule(*logits).log_softmax(-1)[token].item())
    return logps


@pytest.mark.parametrize(
    "name", ["llama", "gpt2", "mistral", "qwen3_next", "falcon_h1", "mamba", "t5"]
)
def test_scores_equal_a_loop_of_plain_forwards(name, tiny, prompts, batch):
    model, (inputs, branch) = tiny(name), batch
    logps, mask = score(model, inputs, ANSWERS, CAD(0.7), branch)
    assert mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    for i, answer in enumerate(ANSWERS):
        reference = loop(model, CAD(0.7), [rows[i] for rows in prompts], answer)
        assert logps[i, : len(answer)].tolist() == pytest.approx(reference, abs=1e-4)
        assert (logps[i, len(answer) :] == 0).all()


def test_a_one_token_vocabulary_by_hand(llama, batch):
    """Plain scoring of a token is its log-softmax: probabilities of all tokens add up to one."""
    inputs, _ = batch
    logps = first_token(llama, inputs, Plain())
    assert logps.exp().sum(-1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    scored, _ = score(llama, inputs, [[8], [8], [8]], Plain())
    torch.testing.assert_close(scored[:, 0], logps[:, 8])


def test_what_the_method_would_never_say_scores_minus_infinity(llama, batch):
    inputs, _ = batch
    logps = first_token(llama, inputs, CutoffOnly(1.0))
    assert (logps.isfinite().sum(-1) == 1).all()
    worst = logps.argmin(-1)
    scored, _ = score(llama, inputs, worst[:, None].tolist(), CutoffOnly(1.0))
    assert scored[:, 0].tolist() == [-math.inf] * 3


@pytest.mark.parametrize("method", [CAD(), DoLa(layers=(0, 2))])
def test_greedy_answers_score_what_generate_reports(method, llama, batch):
    inputs, branch = batch
    given = branch if isinstance(method, CAD) else None
    options = {"max_new_tokens": 4, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_scores": True}
    found = generate(llama, inputs, method, given, **options)
    answers = found.sequences[:, inputs["input_ids"].shape[1] :]
    reported = torch.stack([step.log_softmax(-1).max(-1).values for step in found.scores], dim=1)
    logps, _ = score(llama, inputs, answers.tolist(), method, given)
    torch.testing.assert_close(logps, reported)


def test_empty_answers_and_other_counts_are_refused(llama, batch):
    inputs, branch = batch
    with pytest.raises(ValueError, match=r"answers \[1\] are empty"):
        score(llama, inputs, [[4], [], [5]], CAD(), branch)
    with pytest.raises(ValueError, match="one answer for each of the 3 prompts, got 2"):
        score(llama, inputs, [[4], [5]], CAD(), branch)


@pytest.mark.parametrize("token", [128, -1])
def test_ids_of_no_token_are_refused(token, llama, batch):
    inputs, branch = batch
    with pytest.raises(ValueError, match=f"the model's 128 tokens, got {token} in answer 2"):
        score(llama, inputs, [[127], [0], [5, token]], CAD(), branch)
