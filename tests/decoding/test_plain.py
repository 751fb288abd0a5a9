"""The baselines read no second prompt."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.decoding import CutoffOnly, Plain


def test_plain_decoding_leaves_the_logits_alone() -> None:
    expert = torch.tensor([[1.0, -math.inf, 3.0]])
    assert torch.equal(Plain().rule(expert), expert)


def test_the_cutoff_forbids_the_implausible_and_leaves_the_rest_alone() -> None:
    # Shares of the best token: 1, 0.5, 0.05.
    expert = torch.tensor([1.0, 0.5, 0.05]).log()
    scores = CutoffOnly(cutoff=0.1).rule(expert)
    assert torch.equal(scores[:2], expert[:2])
    assert scores[2] == -math.inf


@pytest.mark.parametrize("cutoff", [0.0, -0.1, 1.1, math.nan])
def test_refuses_a_cutoff_outside_zero_to_one(cutoff: float) -> None:
    with pytest.raises(ValueError, match="cutoff must"):
        CutoffOnly(cutoff=cutoff)


@pytest.mark.parametrize("method", [Plain(), CutoffOnly()])
def test_no_branch_is_built_asked_for_or_taken(method: Plain | CutoffOnly) -> None:
    assert method.branches(None, ["a prompt"], contrast=["another"]) == []
    assert method.sources(None, {}, []) == []
    with pytest.raises(ValueError, match=r"reads no second prompt, but got 1 branch"):
        method.sources(None, {}, [{"input_ids": torch.zeros(1, 1)}])


def test_a_contrast_is_not_silently_dropped() -> None:
    with pytest.raises(ValueError, match="too many values"):
        Plain().rule(torch.zeros(3), torch.zeros(3))
