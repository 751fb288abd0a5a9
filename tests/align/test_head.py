"""Log-probs without logits equal those with them, and so do their gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import GraniteConfig, HyperCLOVAXConfig, LlamaConfig

from contralign.align import head as module
from contralign.align.head import LogitShape, logit_shape, token_scores

SHAPES = [
    LogitShape(),
    LogitShape(scale=0.3),
    LogitShape(softcap=1.5),
    LogitShape(temperature=0.7),
    LogitShape(scale=2.0, softcap=3.0, temperature=1.3),
]


def naive(head: Any, hidden: Tensor, targets: Tensor, shape: LogitShape) -> tuple[Tensor, Tensor]:
    logits = head(hidden) * shape.scale
    if shape.softcap is not None:
        logits = shape.softcap * torch.tanh(logits / shape.softcap)
    distribution = torch.distributions.Categorical(logits=logits / shape.temperature)
    return distribution.log_prob(targets), distribution.entropy()


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Linear, Tensor, Tensor]:
    # Chunks that divide nothing evenly.
    monkeypatch.setattr(module, "VOCABULARY_CHUNK", 7)
    monkeypatch.setattr(module, "TOKEN_CHUNK", 4)
    monkeypatch.setattr(module, "MODULE_CHUNK", 3)
    monkeypatch.setattr(module, "TRL_CHUNK", 5)
    head = nn.Linear(6, 17, bias=False).double()
    hidden = (3 * torch.randn(9, 6, dtype=torch.float64)).requires_grad_()
    return head, hidden, torch.randint(17, (9,))


def test_by_hand() -> None:
    # Logits [0, log 3]: the second token has probability 3/4, entropy log 4 - 3/4 log 3.
    head = nn.Linear(1, 2, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[0.0], [math.log(3)]]))
    logps, entropy = token_scores(
        head, torch.ones(1, 1), torch.tensor([1]), LogitShape(), entropy=True
    )
    assert logps.item() == pytest.approx(math.log(3 / 4))
    assert entropy is not None
    assert entropy.item() == pytest.approx(math.log(4) - 0.75 * math.log(3))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["frozen", "trained", "called"])
def test_equals_the_plain_head(
    problem: tuple[nn.Linear, Tensor, Tensor], shape: LogitShape, kind: str
) -> None:
    head, hidden, targets = problem
    used: nn.Module = nn.Sequential(head) if kind == "called" else head
    head.requires_grad_(kind != "frozen")
    weights = torch.randn(9, dtype=torch.float64)
    expected, expected_entropy = naive(head, hidden, targets, shape)
    wanted = [hidden] if kind == "frozen" else [hidden, head.weight]
    expected_grads = torch.autograd.grad((weights * expected).sum(), wanted)
    logps, entropy = token_scores(used, hidden, targets, shape, entropy=True)
    grads = torch.autograd.grad((weights * logps.double()).sum(), wanted)
    assert entropy is not None
    assert not entropy.requires_grad
    assert torch.allclose(logps.double(), expected, atol=1e-5)
    assert torch.allclose(entropy.double(), expected_entropy, atol=1e-5)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert torch.allclose(grad, expected_grad, atol=1e-5)


def test_a_frozen_head_with_a_bias() -> None:
    head = nn.Linear(6, 17).requires_grad_(False)
    hidden, targets = torch.randn(9, 6, requires_grad=True), torch.randint(17, (9,))
    logps, entropy = token_scores(head, hidden, targets, LogitShape())
    assert entropy is None
    assert torch.allclose(logps, naive(head, hidden, targets, LogitShape())[0], atol=1e-5)


def test_logits_far_apart_stay_finite() -> None:
    head = nn.Linear(1, 3, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[900.0], [0.0], [-900.0]]))
    hidden = torch.ones(3, 1, requires_grad=True)
    logps, entropy = token_scores(head, hidden, torch.tensor([0, 1, 2]), LogitShape(), entropy=True)
    logps.sum().backward()
    assert logps.tolist() == [0, -900, -1800]
    assert entropy is not None
    assert entropy.tolist() == [0, 0, 0]
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_an_adapter_on_the_head_is_not_overlooked() -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(6, 17)), LoraConfig(target_modules=["0"]))
    head = model.base_model.model[0]
    with torch.no_grad():
        head.lora_B["default"].weight.normal_()
    hidden, targets = torch.randn(9, 6), torch.randint(17, (9,))
    logps, _ = token_scores(head, hidden, targets, LogitShape())
    assert torch.allclose(logps, naive(head, hidden, targets, LogitShape())[0], atol=1e-5)
    logps.sum().backward()
    assert head.lora_A["default"].weight.grad.abs().sum() > 0


def test_half_precision_rounds_no_worse_than_plain_logits() -> None:
    head = nn.Linear(64, 999, bias=False).requires_grad_(False)
    hidden, targets = 4 * torch.randn(50, 64), torch.randint(999, (50,))
    exact, _ = naive(head, hidden, targets, LogitShape())
    halved = head.bfloat16()
    ours, _ = token_scores(halved, hidden.bfloat16(), targets, LogitShape())
    plain = torch.log_softmax(halved(hidden.bfloat16()).float(), -1)[range(50), targets]
    assert (ours - exact).abs().mean() <= 1.1 * (plain - exact).abs().mean()


def test_autocast_decides_the_products_precision() -> None:
    head = nn.Linear(64, 99, bias=False).requires_grad_(False)
    hidden, targets = torch.randn(5, 64), torch.randint(99, (5,))
    with torch.autocast("cpu", torch.bfloat16):
        logps, _ = token_scores(head, hidden, targets, LogitShape())
    halved, _ = token_scores(head.bfloat16(), hidden.bfloat16(), targets, LogitShape())
    assert torch.equal(logps, halved)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (LlamaConfig(), 1.0),
        (GraniteConfig(logits_scaling=4.0), 0.25),
        (HyperCLOVAXConfig(logits_scaling=4.0), 4.0),
    ],
)
def test_reads_the_scale_of_a_familys_logits(config: Any, scale: float) -> None:
    assert logit_shape(config, 0.5) == LogitShape(scale, None, 0.5)
