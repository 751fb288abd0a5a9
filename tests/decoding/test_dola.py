"""DoLa: the layer that differs most, chosen row by row."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, T5Config

from contralign.decoding import DoLa, EarlyExit

INF = math.inf


def naive(final: list[float], layers: list[list[float]], cutoff: float) -> list[float]:
    """One row in probabilities, the divergence from entropies."""

    def softmax(row: list[float]) -> list[float]:
        return [math.exp(x) / sum(map(math.exp, row)) for x in row]

    def entropy(row: list[float]) -> float:
        return -sum(x * math.log(x) for x in row)

    def divergence(p: list[float], q: list[float]) -> float:
        mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        return entropy(mean) - (entropy(p) + entropy(q)) / 2

    p, early = softmax(final), [softmax(row) for row in layers]
    q = max(early, key=lambda row: divergence(p, row))
    return [math.log(a / b) if a >= cutoff * max(p) else -INF for a, b in zip(p, q, strict=True)]


def test_by_hand() -> None:
    # Final (0.6, 0.3, 0.1). The first layer agrees; the second, (0.8, 0.1, 0.1), is selected:
    # log(0.6 / 0.8) = -0.288, log(0.3 / 0.1) = 1.099, and 0.1 is below 0.5 * 0.6.
    final, other = torch.tensor([0.6, 0.3, 0.1]).log(), torch.tensor([0.8, 0.1, 0.1]).log()
    scores = DoLa(cutoff=0.5).rule(final, final + 3, other)
    assert scores.tolist() == pytest.approx([-0.28768, 1.09861, -INF], abs=1e-4)


def test_each_row_selects_a_layer_of_its_own() -> None:
    final, *early = 2 * torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(8)).double()
    rows = zip(final.tolist(), *(layer.tolist() for layer in early), strict=True)
    expected = [naive(row, list(layers), 0.1) for row, *layers in rows]
    assert torch.allclose(DoLa().rule(final, *early), torch.tensor(expected).double())


def test_without_a_cutoff_every_token_has_a_score() -> None:
    final, early = torch.tensor([0.0, -30.0, -INF]), torch.zeros(3)
    assert DoLa(cutoff=None).rule(final, early).isfinite().tolist() == [True, True, False]
    assert DoLa().rule(final, early).isfinite().tolist() == [True, False, False]


def model(depth: int, *, tied: bool) -> Any:
    return SimpleNamespace(config=LlamaConfig(num_hidden_layers=depth, tie_word_embeddings=tied))


def exits(method: DoLa, depth: int, *, tied: bool = False) -> list[int]:
    sources = method.sources(model(depth, tied=tied), {}, [])
    return [source.layer for source in sources if isinstance(source, EarlyExit)]


@pytest.mark.parametrize(
    ("depth", "tied", "low", "high"),
    [
        (1, True, [0], [0]),
        (2, True, [1], [1]),
        (4, False, [0], [2]),
        (4, True, [2], [2]),
        (30, True, [2, 4, 6, 8, 10, 12, 14], [15, 17, 19, 21, 23, 25, 27, 29]),
        (32, False, [0, 2, 4, 6, 8, 10, 12, 14], [16, 18, 20, 22, 24, 26, 28, 30]),
        (40, False, [*range(0, 20, 2)], [*range(20, 40, 2)]),
        (41, True, [*range(2, 20, 2)], [*range(21, 41, 2)]),
        (48, False, [*range(0, 20, 2)], [*range(28, 48, 2)]),
    ],
)
def test_the_halves_are_those_of_the_hub_version(
    depth: int, tied: bool, low: list[int], high: list[int]
) -> None:
    assert exits(DoLa(layers="low"), depth, tied=tied) == low
    assert exits(DoLa(layers="high"), depth, tied=tied) == high


def test_named_layers_are_taken_as_they_are() -> None:
    assert exits(DoLa(layers=(3, 0)), 4) == [3, 0]


def test_the_final_layer_is_no_early_exit() -> None:
    with pytest.raises(ValueError, match="4 layers, 0 to 3, got"):
        exits(DoLa(layers=(1, 4)), 4)


def test_a_half_without_a_usable_layer_is_refused() -> None:
    # Tied: the embedding is skipped, and the lower half of three layers has nothing else.
    with pytest.raises(ValueError, match="layers='low'"):
        exits(DoLa(layers="low"), 3, tied=True)


def test_refuses_an_encoder_decoder_and_a_branch() -> None:
    with pytest.raises(ValueError, match="decoder-only"):
        DoLa().sources(SimpleNamespace(config=T5Config()), {}, [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Leave branch= out"):
        DoLa().sources(model(4, tied=False), {}, [{}])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "layers must be low, high or a tuple"),
        ((1, 1), "layers must name each layer once"),
        ((-1,), "layers must be at least 0"),
    ],
)
def test_refuses_bad_layers(layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DoLa(layers=layers)


def test_refuses_a_cutoff_of_zero_in_favor_of_none() -> None:
    with pytest.raises(ValueError, match="cutoff must lie in"):
        DoLa(cutoff=0.0)
