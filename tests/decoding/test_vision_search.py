"""Methods on pictures under beams, several sequences and drafts; branches share no cache."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from vision_cases import GREEDY, QUESTIONS, SAMPLE, STEPS, Setting, m3id, silenced
from vision_reference import Inputs, decoded, kept, next_logits, prompt, shown, unseen
from vision_table import FAMILIES, PICTURES
from vlms import family

from contralign.decoding import CAD, M3ID, VCD, Plain, encode, first_token, generate, processor
from contralign.decoding.vocabulary import aligned

SOME = ["LLaVA-1.5", "Qwen2.5-VL", "Idefics3", "Gemma 3", "InstructBLIP"]
BEAMS: dict[str, Any] = {"num_beams": 3, "return_dict_in_generate": True, "output_scores": True}


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("method", ["vcd", "m3id:decay=0.2"])
def test_beams_sum_the_log_probs_of_the_rule(name: str, method: str) -> None:
    case = Setting(name, method)
    options = {**GREEDY, **BEAMS, "length_penalty": 0.0}
    given = (case.model, case.inputs, case.method, case.branch)
    found: list[Any] = [
        generate(*given, execution, **options) for execution in ("merged", "sequential")
    ]
    added = processor(*given)
    found.append(case.model.generate(**case.inputs, **options, logits_processor=[added]))
    assert case.new(found[0].sequences) == case.new(found[1].sequences)
    assert case.new(found[0].sequences) == case.new(found[2].sequences)
    for row, tokens in enumerate(case.new(found[0].sequences)):
        one = [[branch[row]] for branch in case.branches]
        total = forced(case, one, tokens)
        assert found[0].sequences_scores[row].item() == pytest.approx(total, abs=1e-3)


def forced(case: Setting, branches: list[list[Inputs]], tokens: list[int]) -> float:
    """The log-prob of given tokens, read without a cache."""
    total = 0.0
    for step, token in enumerate(tokens):
        read = [next_logits(case.model, rows[0], tokens[:step]) for rows in branches]
        total += case.rule(step, *read).log_softmax(-1)[token].item()
    return total


@pytest.mark.parametrize("name", SOME)
def test_several_returned_sequences_are_rows_of_their_own(name: str) -> None:
    case = Setting(name, "ritual+vcd")
    torch.manual_seed(4)
    ours = case.view(**SAMPLE, num_return_sequences=2)
    case.branches = [[row for row in rows for _ in range(2)] for rows in case.branches]
    assert ours == case.loop(seed=4)[0]


class Watching(VCD):
    """Keeps what its rule is given."""

    seen: ClassVar[list[tuple[Tensor, ...]]] = []

    def at(self, steps: Any) -> Any:
        def rule(*logits: Tensor) -> Tensor:
            self.seen.append(tuple(x[:, -1] if x.ndim == 3 else x for x in logits))
            return super(Watching, self).at(steps)(*logits)

        return rule


@pytest.mark.parametrize("execution", ["merged", "sequential"])
@pytest.mark.parametrize("name", SOME)
def test_the_branches_share_no_cache(name: str, execution: str) -> None:
    """The bug of VCD's first code and of its copies: from the second token on, no contrast."""
    case = Setting(name, "vcd")
    Watching.seen.clear()
    ids = generate(case.model, case.inputs, Watching(), case.branch, execution, **GREEDY)
    tokens = case.new(ids)
    assert len(Watching.seen) == STEPS
    for step, (expert, contrast) in enumerate(Watching.seen):
        for row in range(len(tokens)):
            anew = [next_logits(case.model, b[row], tokens[row][:step]) for b in case.branches]
            torch.testing.assert_close(contrast[row], anew[1], atol=1e-4, rtol=1e-4)
            apart = contrast[row] - expert[row]
            assert apart[apart.isfinite()].abs().max() > 0.05


@pytest.mark.parametrize(("method", "branches"), [("vcd", 2), ("ritual+vcd", 3)])
def test_a_step_is_one_forward_of_all_branches(method: str, branches: int) -> None:
    case, rows = Setting("LLaVA-1.5", method), []
    layer = case.model.model.language_model.layers[0]
    hook = layer.register_forward_hook(lambda *call: rows.append(len(call[2])))
    case.view("merged")
    hook.remove()
    assert rows == [2] * branches + [2 * branches] * (STEPS - 1)


@pytest.mark.parametrize("name", ["LLaVA-1.5", "Qwen2.5-VL"])
def test_drafts_of_several_tokens_are_at_steps_of_their_own(name: str) -> None:
    case = Setting(name, "m3id:decay=0.2")
    text, images = "abcabcabcabc", QUESTIONS[1][1]
    messages = [prompt(case.processor, (text, images))]
    inputs = encode(case.processor, messages, [images])
    branch = case.method.branches(case.processor, messages, [images])
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    plain = generate(case.model, inputs, case.method, branch, **options)
    drafts = {**options, "prompt_lookup_num_tokens": 3}
    assert torch.equal(generate(case.model, inputs, case.method, branch, **drafts), plain)
    added = processor(case.model, inputs, case.method, branch)
    found = case.model.generate(**inputs, **drafts, logits_processor=[added])
    assert torch.equal(found, plain)
    assert not torch.equal(case.model.generate(**inputs, **options), plain)


def test_no_way_in_writes_the_place_of_a_picture() -> None:
    """Here the expert likes it best, and nothing else could follow in a second forward."""
    model, reader = family("LLaVA-1.5")
    model, place = copy.deepcopy(model), model.config.image_token_id
    with torch.no_grad():
        model.lm_head.weight[place] = 0
    head = model.lm_head.register_forward_hook(
        lambda m, i, o: o.index_fill(-1, torch.tensor(place), 99.0)
    )
    row = QUESTIONS[1]
    messages = [prompt(reader, row)]
    inputs = encode(reader, messages, [row[1]])
    assert place in model.generate(**inputs, **GREEDY)[0, -STEPS:]
    ids = generate(model, inputs, Plain(), **GREEDY)
    added = processor(model, inputs, Plain())
    assert torch.equal(model.generate(**inputs, **GREEDY, logits_processor=[added]), ids)
    assert place not in ids[0, -STEPS:]
    assert first_token(model, inputs, Plain())[0, place] == -math.inf
    head.remove()


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in PICTURES])
@pytest.mark.parametrize("method", [Plain(), CAD()])
def test_rows_of_several_pictures_of_one_and_of_none_go_together(name: str, method: Any) -> None:
    model, reader = family(name)
    rows = [*QUESTIONS, ("Who wrote it?", [])]
    short = [("What?", QUESTIONS[0][1]), ("Why?", QUESTIONS[1][1]), ("Who?", [])]
    images = [row[1] for row in rows]
    inputs = encode(reader, [prompt(reader, row) for row in rows], images)
    contrast = [prompt(reader, row) for row in short]
    branch = method.branches(reader, [prompt(reader, row) for row in rows], images, contrast)
    read = [rows, short][: 1 + method.contrasts]
    branches = [
        [unseen(reader, q) if not q[1] else shown(reader, q) for q in part] for part in read
    ]
    rule = silenced(model, lambda step, *logits: method.rule(*logits))
    expected, _ = decoded(model, branches, rule, STEPS)
    ids = generate(model, inputs, method, branch, **GREEDY)
    assert ids[:, inputs["input_ids"].shape[1] :].tolist() == expected


def test_bans_after_the_cutoff_meet_the_rule_of_their_step() -> None:
    case = Setting("LLaVA-1.5", "m3id:decay=0.2")
    free, _ = case.loop()
    banned = sorted({token for row in free for token in row})

    def rule(step: int, expert: Tensor, unseen: Tensor) -> Tensor:
        scores = kept(expert, m3id(step, expert, unseen), 0.9)
        scores[banned] = -math.inf
        if not scores.isfinite().any():
            allowed = expert.clone()
            allowed[banned] = expert.min() - 1e4
            scores = kept(allowed, m3id(step, allowed, unseen), 0.9)
        return scores

    case.rule, case.method = silenced(case.model, rule), M3ID(decay=0.2, cutoff=0.9)
    expected, _ = case.loop()
    assert not set(banned) & {token for row in expected for token in row}
    assert case.view(bad_words_ids=[[token] for token in banned]) == expected


@pytest.mark.parametrize("name", ["LLaVA-1.5", "Qwen2.5-VL", "Gemma 3"])
@pytest.mark.parametrize(
    "options",
    [{"cache_implementation": "static"}, {"prefill_chunk_size": 16}],
    ids=["static", "chunked"],
)
def test_cache_options_change_nothing(name: str, options: dict[str, Any]) -> None:
    case = Setting(name, "ritual+vcd")
    assert case.view("merged", **options) == case.loop()[0]


def test_an_id_beyond_the_head_stands_for_nothing() -> None:
    """Some configs name an image token that the language model has no row for."""
    scores = torch.zeros(2, 5)
    assert torch.equal(aligned(scores, [], [9])[0], scores)
    assert aligned(scores, [], [9, 1])[0].isneginf().sum(0).tolist() == [0, 2, 0, 0, 0]


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["ritual+vcd", "m3id:decay=0.2"])
def test_cuda_gives_the_tokens_of_the_cpus_loop(name: str, method: str) -> None:
    case = Setting(name, method)
    expected, _ = case.loop()
    case.model = copy.deepcopy(case.model).to("cuda")
    case.inputs = {key: x.to("cuda") for key, x in case.inputs.items()}
    assert case.view() == case.drop_in() == expected
