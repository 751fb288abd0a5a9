"""Laws of every rule in the table: a new method is covered by its entry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contralign.decoding import (
    CD,
    M3ID,
    METHODS,
    RITUAL,
    VDD,
    AdaCAD,
    Calibration,
    Composed,
    CutoffOnly,
    DoLa,
    Method,
    RITUALPlus,
)

INF = math.inf
ROWS, VOCAB = 3, 7
EXITS = 3
STEP = 30  # by then a contrast that grows from nothing is there

# Half of the contrast, or another temperature, is no plain difference of log-probs.
HALF_HEARTED = CD(coef=0.5, amateur_temperature=0.5, top_k=3)
VARIANTS = [
    *(method() for method in METHODS.values()),
    AdaCAD(floor=0.3, base="2"),
    HALF_HEARTED,
    DoLa(cutoff=None),
    VDD("both", alpha=0.5),
    Calibration("both"),
    RITUAL(normalize=True),
    Composed((RITUAL(kappa=2.0), VDD("unk"), M3ID())),
]
every_method = pytest.mark.parametrize("method", VARIANTS, ids=repr)
quickly = settings(max_examples=20, deadline=None)


@st.composite
def branches(draw: st.DrawFn) -> Tensor:
    """Logits of more branches than any rule reads, some `-inf`, one token allowed in each row.

    Seeded noise, not drawn floats: exact ties have no permutation-invariant winner.
    """
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (1 + EXITS, ROWS, VOCAB)
    spread = draw(st.sampled_from([0.1, 2.0, 8.0]))
    logits = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    share = draw(st.sampled_from([0.0, 0.3, 0.8]))
    forbidden = torch.rand(shape, generator=generator) < share
    allowed = torch.randint(VOCAB, shape[:-1], generator=generator)
    return logits.masked_fill(forbidden.scatter(-1, allowed[..., None], False), -INF)


def applied(method: Method, logits: Tensor) -> Tensor:
    count = EXITS if isinstance(method, DoLa) else method.contrasts
    return method.at(STEP)(*logits[: 1 + count])


def close(first: Tensor, second: Tensor) -> bool:
    """Equal up to a constant in each row."""
    return torch.allclose(first.log_softmax(-1), second.log_softmax(-1), atol=1e-6)


@every_method
@quickly
@given(logits=branches(), seed=st.integers(0, 2**31))
def test_a_constant_in_a_row_of_any_input_adds_only_a_constant(
    method: Method, logits: Tensor, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shift = 10 * torch.randn(1 + EXITS, ROWS, 1, generator=generator, dtype=torch.float64)
    assert close(applied(method, logits + shift), applied(method, logits))


@every_method
@quickly
@given(logits=branches(), order=st.permutations(range(VOCAB)))
def test_renaming_the_tokens_renames_the_scores(
    method: Method, logits: Tensor, order: list[int]
) -> None:
    assert torch.allclose(applied(method, logits[..., order]), applied(method, logits)[..., order])


@every_method
@quickly
@given(logits=branches())
def test_what_the_expert_forbids_stays_forbidden_and_something_survives(
    method: Method, logits: Tensor
) -> None:
    scores = applied(method, logits)
    assert (scores[logits[0] == -INF] == -INF).all()
    assert not scores.isnan().any()
    assert not scores.isposinf().any()
    assert scores.isfinite().any(-1).all()


@every_method
@quickly
@given(logits=branches())
def test_a_row_that_forbids_everything_harms_no_other(method: Method, logits: Tensor) -> None:
    spoiled = logits.clone()
    spoiled[0, 0] = -INF
    spoiled[1:, 1] = -INF
    scores = applied(method, spoiled)
    assert (scores[0] == -INF).all()
    assert scores[1].isfinite().any()
    assert not scores[1].isnan().any()
    assert torch.equal(scores[2], applied(method, logits)[2])


@every_method
@quickly
@given(logits=branches())
def test_arguments_are_left_alone(method: Method, logits: Tensor) -> None:
    before = logits.clone()
    applied(method, logits)
    assert torch.equal(logits, before)


@every_method
@quickly
@given(logits=branches())
def test_rows_do_not_see_each_other(method: Method, logits: Tensor) -> None:
    together = applied(method, logits)
    alone = [applied(method, logits[:, row]) for row in range(ROWS)]
    assert torch.allclose(together, torch.stack(alone))
    lifted = applied(method, logits[:, :, None])
    assert torch.equal(lifted[:, 0], together)


def looks(method: Method) -> float:
    """The weight of second looks."""
    if isinstance(method, Composed):
        return sum(map(looks, method.parts))
    counted = isinstance(method, (RITUAL, RITUALPlus)) and not method.normalize
    return method.kappa if counted else 0.0


@pytest.mark.parametrize("method", [m for m in VARIANTS if m != HALF_HEARTED], ids=repr)
@quickly
@given(logits=branches())
def test_agreeing_branches_have_nothing_to_say(method: Method, logits: Tensor) -> None:
    expert = logits[0]
    scores = applied(method, expert.expand(1 + EXITS, ROWS, VOCAB))
    # A difference is flat on the tokens it keeps, RITUAL adds its second look; every other rule
    # leaves them as they were.
    weight = 0.0 if isinstance(method, (CD, Calibration, DoLa)) else 1.0 + looks(method)
    expected = weight * expert.masked_fill(expert == -INF, 0)
    assert close(scores, expected.masked_fill(scores == -INF, -INF))


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_keep_the_dtype(method: Method, dtype: torch.dtype) -> None:
    logits = torch.randn(1 + EXITS, ROWS, VOCAB, generator=torch.Generator().manual_seed(9))
    assert applied(method, logits.to(dtype)).dtype == dtype


def test_the_baseline_of_a_cutoff_keeps_what_the_methods_keep() -> None:
    logits = torch.randn(1 + EXITS, ROWS, VOCAB, generator=torch.Generator().manual_seed(10))
    kept = applied(CutoffOnly(), 3 * logits).isfinite()
    assert torch.equal(kept, applied(CD(), 3 * logits).isfinite())
    assert torch.equal(kept, applied(DoLa(), 3 * logits).isfinite())
    assert not kept.all()
