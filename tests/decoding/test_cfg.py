"""Classifier-free guidance against transformers' own formula."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor

from contralign.decoding import CAD, CFG


def test_by_hand() -> None:
    # l' + 2 * (l - l') = [0, 3] + 2 * [1, -2]
    assert CFG(scale=2.0).rule(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 3.0])).tolist() == [
        2,
        -1,
    ]


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5, 3.0])
def test_equals_the_processor_of_transformers(scale: float) -> None:
    expert, contrast = torch.randn(2, 1, 9, generator=torch.Generator().manual_seed(4))

    class Output(dict[str, object]):
        logits = contrast[:, None]

    theirs = UnbatchedClassifierFreeGuidanceLogitsProcessor(scale, lambda *_, **__: Output())
    expected = theirs(torch.zeros(1, 2, dtype=torch.long), expert)
    ours = CFG(scale=scale).rule(expert, contrast)
    assert torch.allclose(ours.log_softmax(-1), expected.log_softmax(-1), atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_is_cad_with_one_more(alpha: float) -> None:
    expert, contrast = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(5)).double()
    ours, cad = CFG(scale=1 + alpha).rule(expert, contrast), CAD(alpha=alpha).rule(expert, contrast)
    assert torch.allclose(ours, cad)


def test_scale_one_is_plain_and_below_one_the_prompts_mix() -> None:
    expert, contrast = torch.tensor([1.0, -math.inf, 2.0]), torch.tensor([5.0, 6.0, 4.0])
    assert torch.equal(CFG(scale=1.0).rule(expert, contrast), expert)
    assert CFG(scale=0.5).rule(expert, contrast).tolist() == [3, -math.inf, 3]


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_refuses_a_scale_that_ignores_the_prompt(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be above 0"):
        CFG(scale=scale)
