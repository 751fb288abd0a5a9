"""Answers read off the first token are those of `generate`, question by question."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from align_vlms import picture
from vlms import family

from contralign.decoding import parse, surface_forms, wrap
from contralign.eval.ask import Ask
from contralign.eval.closed import Choice, choose
from contralign.eval.model import LanguageModel
from contralign.eval.sampling import search_options

QUESTIONS = ("Is there a cat?", "Is there an elephant in it?", "Why?", "b or a?", "A bird, no?")
LABELS = ("q", "u", "j", "e")
SEEDS = [3, 1, 4, 1, 5]
NOISE = [9] * 5


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(*family("LLaVA-1.5"))


def asks(reading: str, labels: tuple[str, ...] = LABELS) -> list[Ask]:
    image = picture(5)
    return [
        Ask(text, images=(image,), choices=labels, reading=reading, max_new_tokens=2)
        for text in QUESTIONS
    ]


def held(model: LanguageModel, ask: Ask, name: str, seed: int, noise: int) -> str:
    """One question through `generate`, which may begin with the labels' tokens only."""
    decoding = parse(name)
    allowed = {x for form in surface_forms(model.tokenizer, ask.choices) for x in form}
    inputs, branch = model.encoded([ask], decoding, [noise])
    view: Any = wrap(model.model, decoding.method, branch)
    output = view.generate(
        **model.placed(inputs),
        **search_options(decoding, [seed], inputs["input_ids"].shape[1]),
        max_new_tokens=1,
        pad_token_id=0,
        suppress_tokens=[x for x in range(len(model.tokenizer)) if x not in allowed],
    )
    return model.tokenizer.decode(output[0, -1]).strip().lower()


@pytest.mark.parametrize(
    "name", ["greedy", "sample", "vcd", "vcd:cutoff=0.9", "m3id", "vcd@sample"]
)
def test_held_to_labels_it_is_generate_held_to_them(model: LanguageModel, name: str) -> None:
    said = model.answers(asks("labels"), parse(name), SEEDS, noise_seeds=NOISE)
    expected = [
        held(model, ask, name, seed, noise)
        for ask, seed, noise in zip(asks("labels"), SEEDS, NOISE, strict=True)
    ]
    assert [answer.text for answer in said] == expected
    assert all(answer.tokens == 1 for answer in said)


def free(model: LanguageModel, name: str) -> list[Any]:
    text = [replace(ask, max_new_tokens=2) for ask in asks("text")]
    return model.answers(text, parse(name), SEEDS, noise_seeds=NOISE)


@pytest.mark.parametrize("name", ["greedy", "sample", "vcd"])
def test_not_held_it_says_what_generation_begins_with_and_generates_the_rest(
    model: LanguageModel, name: str
) -> None:
    """Labels are chosen so that some answers begin with one and some don't."""
    words = free(model, name)
    firsts = [answer.text[:1].lower() for answer in words]
    labels = (firsts[0], "#", "%")
    said = model.answers(asks("first-token", labels), parse(name), SEEDS, noise_seeds=NOISE)
    for answer, generated, first in zip(said, words, firsts, strict=True):
        assert answer.off_label == (first != firsts[0])
        assert answer.text == (generated.text if answer.off_label else firsts[0])


def test_an_answer_does_not_depend_on_what_it_shares(model: LanguageModel) -> None:
    together = model.answers(asks("labels"), parse("vcd"), SEEDS, noise_seeds=NOISE)
    alone = [
        model.answers([ask], parse("vcd"), [seed], noise_seeds=[9])[0]
        for ask, seed in zip(asks("labels"), SEEDS, strict=True)
    ]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_calibration_weighs_labels_and_writes_nothing(model: LanguageModel) -> None:
    said = model.answers(asks("labels"), parse("calibration"), SEEDS)
    assert {answer.text for answer in said} <= {*LABELS}
    with pytest.raises(ValueError, match=r"generates no text\. Use reading='labels'"):
        model.check(asks("first-token"), parse("calibration"))


@pytest.mark.parametrize(
    ("name", "labels", "complaint"),
    [
        ("plain@beam2", LABELS, "beam search"),
        ("greedy", ("yes", "no"), "no single token says"),
        ("greedy", ("a", "A"), "labels differ in more than case"),
    ],
)
def test_what_a_first_token_cannot_tell_is_refused(
    model: LanguageModel, name: str, labels: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        model.check(asks("labels", labels), parse(name))


def test_the_best_token_of_a_label_speaks_for_it() -> None:
    # Label 0 is said by tokens 1 and 2, label 1 by token 3; token 0 says none.
    scores = torch.tensor([[0.0, 1, 5, 4], [9, 1, 2, 4], [0, -torch.inf, -torch.inf, -torch.inf]])
    again = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 2]])
    expected = [Choice(0, True), Choice(1, False), Choice(1, False)]
    assert choose(scores, [[1, 2], [3]], again) == expected
