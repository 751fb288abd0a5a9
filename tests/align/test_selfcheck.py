"""How training must start: each way of going wrong has its reason, and what's odd is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from align_policies import policy
from pair_batches import logps, pairs
from torch import Tensor, nn

from contralign.align.batch import Batch
from contralign.align.losses import DPO, Hinge
from contralign.align.selfcheck import check_gradient, check_start
from contralign.align.start import Start
from contralign.align.stop import TrainingError

LENGTHS = [(2, 3), (4, 1)]
BATCH = pairs(LENGTHS)
PLAIN = nn.Linear(1, 1)


def start(reference: str = "base", **options: Any) -> Start:
    return Start(
        **{"reference": reference, "equal": True, "adapter": False, "half": False} | options
    )


def said(seed: int = 0) -> Tensor:
    return logps(LENGTHS, seed).float()


def check(
    policy_logps: Tensor,
    reference: Tensor | None,
    known: Start,
    *,
    batch: Batch = BATCH,
    model: nn.Module = PLAIN,
) -> str | None:
    return check_start(known, DPO(beta=0.1), policy_logps, reference, batch, model)


@pytest.mark.parametrize("half", [True, False])
def test_a_policy_that_is_its_reference_may_start(half: bool) -> None:
    assert check(said(), said(), start(half=half)) is None
    assert check(said() + 5e-4 * BATCH.mask, said(), start(half=half)) is None


def test_what_stands_on_padding_does_not_matter() -> None:
    assert check(said() - 9.0 * ~BATCH.mask, said(), start()) is None


def test_there_is_nothing_to_check_without_a_reference() -> None:
    assert check(said(), None, start("none", equal=False)) is None


def test_log_probs_apart_are_told_with_the_loss() -> None:
    """Of the first pair the rejected answer has one token more, of the second the chosen three."""
    with pytest.raises(TrainingError) as stop:
        check(said() + 0.25 * BATCH.mask, said(), start())
    loss = sum(math.log(1 + math.exp(-0.1 * 0.25 * more)) for more in (-1, 3)) / 2
    assert f"0.25 nats a token apart and the loss is {loss:.4f}, not 0.6931." in str(stop.value)
    assert "log_prob_path: padded. Or set self_check: false." in str(stop.value)


def test_tokens_apart_are_refused_where_the_loss_is_the_same() -> None:
    lengths = [(2, 2)]
    same = logps(lengths, 0)
    with pytest.raises(TrainingError, match=r"loss is 0\.6931, not 0\.6931"):
        check(same + 0.01, same, start(), batch=pairs(lengths))


def test_a_loss_that_is_off_is_refused_where_tokens_hardly_are() -> None:
    lengths = [(1000, 1000)]
    same = logps(lengths, 0)
    shifted = same + torch.tensor([5e-4, -5e-4])[:, None]
    with pytest.raises(TrainingError, match=r"0\.0005 nats a token apart and the loss is 0\.64"):
        check(shifted, same, start(), batch=pairs(lengths))


def test_half_precision_may_be_as_far_apart_as_it_rounds() -> None:
    apart = said() + 0.01 * BATCH.mask
    assert check(apart, said(), start(half=True)) is None
    with pytest.raises(TrainingError):
        check(apart, said(), start())
    with pytest.raises(TrainingError):
        check(said() + 0.1 * BATCH.mask, said(), start(half=True))


def test_what_is_no_number_is_not_the_same() -> None:
    with pytest.raises(TrainingError, match="nan nats"):
        check(torch.full_like(said(), torch.nan), said(), start())


def reason(model: nn.Module, known: Start) -> str:
    with pytest.raises(TrainingError) as stop:
        check(said(1), said(2), known, model=model)
    return str(stop.value)


def test_dropout_is_the_first_thing_suspected() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.1), nn.Dropout(0.0), nn.Dropout(0.2))
    assert "Dropout is on (1 and 2 in all): set disable_dropout: true." in reason(model, start())


@pytest.mark.parametrize(
    ("reference", "suspected"), [("base", True), ("cached", True), ("adapter", False)]
)
def test_then_an_adapter_that_speaks_already(reference: str, suspected: bool) -> None:
    text = reason(policy(), start(reference, adapter=True))
    told = f"what the model says, and reference: {reference} is the model without it."
    assert (told in text) is suspected
    assert ("set reference: adapter." in text) is suspected
    assert ("Something in the model is random" in text) is not suspected


def test_a_fresh_adapter_is_not_suspected() -> None:
    model = policy()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert "Something in the model is random" in reason(model, start(adapter=True))


def test_a_reference_that_should_differ_and_does_not_is_told() -> None:
    text = check(said(), said(), start("some/model", equal=False))
    assert text is not None
    assert text.startswith("the reference, some/model, gives exactly the policy's log-probs.")
    assert check(said(1), said(2), start("some/model", equal=False)) is None


@pytest.mark.parametrize("norm", [1e-30, torch.tensor(0.5), torch.tensor(torch.nan)])
def test_any_gradient_is_one(norm: Any) -> None:
    check_gradient(norm, start())


@pytest.mark.parametrize(
    ("adapter", "told"),
    [(True, "the adapter sits on layers that aren't run"), (False, "(requires_grad) isn't run")],
)
def test_no_gradient_stops_the_run(adapter: bool, told: str) -> None:
    for norm in (0.0, torch.tensor(0.0)):
        with pytest.raises(TrainingError, match="gradient is exactly 0, so nothing") as stop:
            check_gradient(norm, start(adapter=adapter))
        assert told in str(stop.value)


def test_a_satisfied_hinge_has_no_gradient() -> None:
    policy_logps = said().requires_grad_()
    far = torch.zeros_like(said())
    far[:, 0] = -100.0
    loss, _ = Hinge(beta=1.0)(policy_logps, far * BATCH.mask, BATCH)
    loss.sum().backward()
    assert policy_logps.grad is not None
    with pytest.raises(TrainingError, match="a hinge that every pair already satisfies"):
        check_gradient(policy_logps.grad.norm(), start())
