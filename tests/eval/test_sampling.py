"""Keyed sampling: the right distribution, and noise that follows the item."""

from __future__ import annotations

import math

import pytest
import torch

from contralign.eval.sampling import KeyedSampling, gumbel, item_seed

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])


def draw(sampling: KeyedSampling, scores: torch.Tensor, step: int = 0) -> torch.Tensor:
    ids = torch.zeros(len(scores), sampling.prompt_length + step, dtype=torch.long)
    return sampling(ids, scores)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_its_argmax_is_a_sample_of_the_tempered_softmax(temperature: float) -> None:
    rows = 4000
    sampling = KeyedSampling([item_seed(0, f"item {i}") for i in range(rows)], 3, temperature)
    chosen = draw(sampling, LOGITS.expand(rows, -1)).argmax(-1)
    counts = torch.bincount(chosen, minlength=5).double()
    weights = [math.exp(x / temperature) for x in LOGITS.tolist()]
    expected = torch.tensor([rows * w / sum(weights) for w in weights])
    assert counts[4] == 0
    chi_square = ((counts - expected) ** 2 / expected)[:4].sum()
    assert chi_square < 16.27  # 3 degrees of freedom, level 0.001


def test_steps_are_independent_draws() -> None:
    sampling = KeyedSampling([1], 3)
    noise = torch.cat([draw(sampling, torch.zeros(1, 500), step) for step in range(20)])
    off_diagonal = torch.corrcoef(noise) - torch.eye(20)
    assert off_diagonal.abs().max() < 0.2  # 4.5 standard errors of 1 / sqrt(500)


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(1, 0, 100_000)
    # Mean is Euler's constant, variance pi^2 / 6; standard errors are 0.004 and 0.014.
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.06)


def test_a_row_is_the_same_in_any_batch_and_at_any_prompt_length() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = draw(KeyedSampling([1, 2, 3], 9), scores, step=4)
    alone = draw(KeyedSampling([2], 2), scores[1:2], step=4)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)


def test_seed_item_and_step_each_change_the_noise() -> None:
    base = gumbel(item_seed(0, "a"), 0, 8)
    for other in [(item_seed(1, "a"), 0), (item_seed(0, "b"), 0), (item_seed(0, "a"), 1)]:
        assert not torch.equal(base, gumbel(*other, 8))


def test_seeds_that_differ_by_two_to_the_32_do_not_collide() -> None:
    assert not torch.equal(gumbel(0, 0, 8), gumbel(2**32, 0, 8))


def test_item_seeds_are_legal_seeds_for_torch() -> None:
    seeds = [item_seed(0, str(i)) for i in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_forbidden_tokens_stay_forbidden_and_scores_are_left_alone() -> None:
    scores = LOGITS.expand(2, -1).clone()
    before = scores.clone()
    drawn = draw(KeyedSampling([1, 2], 3), scores)
    assert torch.isneginf(drawn[:, 4]).all()
    assert torch.isfinite(drawn[:, :4]).all()
    assert torch.equal(scores, before)


def test_refuses_more_rows_than_items() -> None:
    with pytest.raises(ValueError, match=r"2 rows, got 4 rows.*num_beams=1"):
        draw(KeyedSampling([1, 2], 3), torch.zeros(4, 5))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        KeyedSampling([1], 3, temperature)
