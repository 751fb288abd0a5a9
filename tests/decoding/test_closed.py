"""Closed answers off the first token, and the calibration of Zhang et al. against a plain loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from align_vlms import picture
from torch import Tensor
from vision_reference import next_logits, prompt, shown, unseen
from vision_table import FAMILIES, works
from vlms import family

from contralign.decoding import (
    CAD,
    VCD,
    Calibration,
    CutoffOnly,
    Plain,
    closed,
    encode,
    first_token,
    generate,
    processor,
    score,
    surface_forms,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = [("Is it red?", [picture(0)]), ("Is it a dog?", [picture(1)])]
LABELS = ["y", "n"]


def asked(reader: Any) -> tuple[Any, Any]:
    return [prompt(reader, row) for row in ROWS], [images for _, images in ROWS]


def probabilities(model: Any, inputs: Any, silent: Tensor) -> Tensor:
    logits = next_logits(model, inputs, []).index_fill(-1, silent, -math.inf)
    return logits.softmax(-1)


def places(model: Any) -> Tensor:
    ids = [model.config.image_token_id, getattr(model.config, "video_token_id", None)]
    return torch.tensor([x for x in ids if x is not None])


@torch.no_grad()
def loop(model: Any, reader: Any, method: Calibration, row: Any) -> list[float]:
    """The authors' code, with its ten best tokens and its first form, one row at a time."""
    marks = {"none": [False], "unk": [True], "both": [False, True]}[method.counterfactual]
    inputs = [shown(reader, row), *(unseen(reader, row, mark) for mark in marks)]
    found = []
    for given in inputs:
        p = probabilities(model, given, places(model))
        best = p.argsort(descending=True)[: method.top_k].tolist()
        first: dict[str, float] = {}
        for token in best:
            text = reader.tokenizer.decode([token]).strip().lower()
            first.setdefault(text, p[token].item())
        found.append([first[label] for label in LABELS])
    seen, *others = found
    shares = [[p / sum(other) for p in other] for other in others]
    prior = [sum(x) / len(shares) + 1e-4 for x in zip(*shares, strict=True)]
    weighed = [p / q for p, q in zip(seen, prior, strict=True)]
    return [x / sum(weighed) for x in weighed]


@pytest.mark.parametrize("kind", ["none", "unk", "both"])
@pytest.mark.parametrize("name", [x for x in FAMILIES if works("calibration", x)])
def test_calibration_equals_the_authors_loop(name: str, kind: Any) -> None:
    model, reader = family(name)
    method = Calibration(kind, forms="first", top_k=300)
    messages, images = asked(reader)
    branch = method.branches(reader, messages, images)
    forms = surface_forms(reader.tokenizer, LABELS)
    logps, complete = closed(model, encode(reader, messages, images), forms, method, branch)
    assert complete.all()
    expected = [loop(model, reader, method, row) for row in ROWS]
    torch.testing.assert_close(logps.exp(), torch.tensor(expected), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["LLaVA-1.5", "InstructBLIP"])
def test_score_reaches_it_token_by_token(name: str) -> None:
    """Ratios of single tokens add up over longer answers."""
    model, reader = family(name)
    messages, images = asked(reader)
    branch = Calibration().branches(reader, messages, images)
    answers = [[70, 80], [90]]
    ratios, mask = score(model, encode(reader, messages, images), answers, Calibration(), branch)
    assert mask.tolist() == [[True, True], [True, False]]
    for row, answer, found in zip(ROWS, answers, ratios.tolist(), strict=True):
        for step, token in enumerate(answer):
            seen, without = (
                next_logits(model, given, answer[:step])
                for given in (shown(reader, row), unseen(reader, row))
            )
            seen = seen.index_fill(-1, places(model), -math.inf)
            expected = seen.log_softmax(-1)[token] - without.log_softmax(-1)[token]
            assert found[step] == pytest.approx(expected.item(), abs=1e-4)


def debiased(method: Calibration, seen: list[Any], unseen: list[Any]) -> list[Any]:
    rows = method.debiased(torch.tensor(seen).log(), [torch.tensor(x).log() for x in unseen])
    return [[round(x, 4) for x in row] for row in rows.exp().tolist()]


def test_a_division_by_hand() -> None:
    # p' = [0.8, 0.2] + 1e-4: 0.5 / 0.8001 = 0.6249, 0.3 / 0.2001 = 1.4993.
    assert debiased(Calibration(), [[0.5, 0.3]], [[[0.4, 0.1]]]) == [[0.2942, 0.7058]]
    # The mean of [0.8, 0.2] and [0.2, 0.8] is even.
    assert debiased(Calibration("both"), [[0.3, 0.1]], [[[0.4, 0.1]], [[0.1, 0.4]]]) == [
        [0.75, 0.25]
    ]
    rows = [[0.3, 0.1], [0.1, 0.3]]
    own = debiased(Calibration(), rows, [[[0.4, 0.1], [0.1, 0.4]]])
    shared = debiased(Calibration(calibrate="dataset"), rows, [[[0.4, 0.1], [0.1, 0.4]]])
    assert shared == [[0.75, 0.25], [0.25, 0.75]]
    assert own != shared


def test_a_certain_prior_divides_by_no_zero() -> None:
    assert debiased(Calibration(), [[0.5, 0.5]], [[[1.0, 0.0]]]) == [[0.0001, 0.9999]]


def test_forms_are_added_up_or_the_likeliest_taken() -> None:
    logps = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    forms = [[0, 1], [2]]

    def labels(**options: Any) -> tuple[list[float], bool]:
        found, complete = Calibration(**options).labels(logps, forms)
        return [round(x, 4) for x in found.exp()[0].tolist()], bool(complete[0])

    assert labels() == ([0.3, 0.3], True)
    assert labels(forms="first") == ([0.2, 0.3], True)
    assert labels(forms="first", top_k=3) == ([0.2, 0.3], True)
    assert labels(top_k=2) == ([0.0, 0.3], False)


def test_a_missing_label_leaves_its_row_alone() -> None:
    model, reader = family("LLaVA-1.5")
    messages, images = asked(reader)
    inputs, branch = (
        encode(reader, messages, images),
        Calibration().branches(reader, messages, images),
    )
    best = first_token(model, inputs, Plain()).argsort(descending=True)[0].tolist()
    forms = [[best[0]], [best[-1]]]
    logps, complete = closed(model, inputs, forms, Calibration(top_k=5), branch)
    assert complete.tolist() == [False, False]
    assert not logps.isnan().any()
    assert logps[0].exp().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("method", [Plain(), CAD(0.5), VCD(), CutoffOnly(0.9)])
def test_other_methods_weigh_labels_by_their_own_first_token(method: Any) -> None:
    model, reader = family("LLaVA-1.5")
    messages, images = asked(reader)
    inputs = encode(reader, messages, images)
    contrast = [prompt(reader, ("What?", images)) for _, images in ROWS]
    branch = method.branches(reader, messages, images, contrast, seeds=[1, 2])
    logps, complete = closed(model, inputs, [[70, 71], [90]], method, branch)
    every = first_token(model, inputs, method, branch).exp()
    sums = torch.stack([every[:, 70] + every[:, 71], every[:, 90]], dim=-1)
    assert complete.tolist() == (sums.sum(-1) > 0).tolist()
    expected = torch.where(complete[:, None], sums / sums.sum(-1, keepdim=True), 0.5)
    torch.testing.assert_close(logps.exp(), expected)


def test_tokens_that_say_a_label(tokenizer: Any) -> None:
    forms = surface_forms(tokenizer, ["A", " b "])
    assert [[tokenizer.decode([x]) for x in ids] for ids in forms] == [["A", "a"], ["B", "b"]]


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [(["yes", "n"], r"no single token says \['yes'\]"), (["a", "A"], r"got \['a'\] twice")],
)
def test_labels_are_different_and_of_one_token(
    labels: list[str], complaint: str, tokenizer: Any
) -> None:
    with pytest.raises(ValueError, match=complaint):
        surface_forms(tokenizer, labels)


def test_it_does_not_generate() -> None:
    model, reader = family("LLaVA-1.5")
    messages, images = asked(reader)
    inputs = encode(reader, messages, images)
    branch = Calibration().branches(reader, messages, images)
    for way_in in (generate, processor):
        with pytest.raises(ValueError, match="Calibration weighs closed answers"):
            way_in(model, inputs, Calibration(), branch)
    with pytest.raises(ValueError, match=r"Calibration is about pictures, but prompts \[0\]"):
        Calibration().branches(reader, [prompt(reader, ("What?", []))])
    with pytest.raises(ValueError, match="reads 1 contrast branch"):
        closed(model, inputs, [[70], [90]], Calibration())
