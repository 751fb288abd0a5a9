"""Intervals for means, tests for paired differences, and a correction for testing many methods.

Wilson 1927 (score interval); Efron 1979 (bootstrap, percentile interval); McNemar 1947 in its exact
binomial form; Agresti & Min 2005, "Simple improved confidence intervals for comparing matched
proportions"; Fisher's sign-flip test for paired means; Holm 1979. All intervals are 95 %, all tests
two-sided, all draws seeded: the same values give the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, isfinite, nan, sqrt

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " n"]
Totals = Float[np.ndarray, "draws parts"]

Z95 = 1.959963984540054
RESAMPLES = 2000
FLIPS = 10_000
BLOCK = 100
"""Draws made at once: bounds the memory to 100 numbers an item."""
ENUMERABLE = 14
"""Up to this many non-zero differences every one of the `2 ** n` sign patterns is visited."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes:
        value: The mean; NaN when nothing was measured.
        low: NaN where the values cannot say (nothing measured, or one value that is not 0 or 1).
        high: Likewise.
        n: How many values the mean is over.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Paired:
    """How much better `a` is than `b` on the same items.

    Attributes:
        difference: Mean of `a - b`; NaN without items.
        low: Of the difference's 95 % interval; NaN where the values cannot say.
        high: Likewise.
        p: Two-sided p value of no difference; NaN without items.
        n: Items that both have.
        wins: Items on which `a` is larger.
        losses: Items on which `b` is larger.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    wins: int
    losses: int


def mean_estimate(values: Sequence[float]) -> Estimate:
    """Estimate a mean: Wilson's interval for 0/1 values, a percentile bootstrap for others.

    Args:
        values: One per item; leave out the items that have none.

    Raises:
        ValueError: A value is not finite.
    """
    numbers = _finite("values", values)
    n = len(numbers)
    if n == 0:
        return Estimate(nan, nan, nan, 0)
    if _is_binary(numbers):
        return _wilson(int(numbers.sum()), n)
    low, high = _bootstrap(numbers)
    return Estimate(float(numbers.mean()), low, high, n)


def total_estimates(
    counts: Float[np.ndarray, "units parts"],
    statistics: Mapping[str, tuple[Callable[[Totals], Float[np.ndarray, " draws"]], int]],
) -> dict[str, Estimate]:
    """Estimate functions of totals, such as F1 or a ratio of two sums: bootstrap over units.

    Args:
        counts: What each unit adds to the totals. Units are drawn whole: what shares an image or a
            caption is not independent.
        statistics: Name -> a function of totals `[draws, parts]`, NaN where they give no value, and
            the number of items it is over.

    Returns:
        Name -> its value of all units, and the 2.5 and 97.5 percentiles of those draws that give
        one; NaN where fewer than two units, or not all values, are there.
    """
    units = len(counts)
    drawn = _drawn_totals(counts) if units > 1 else np.zeros((0, counts.shape[1]))
    found = {}
    for name, (statistic, n) in statistics.items():
        value = float(statistic(counts.sum(axis=0, keepdims=True))[0]) if units else nan
        draws = statistic(drawn)
        draws = draws[np.isfinite(draws)]
        known = isfinite(value) and len(draws) > 0
        low, high = np.quantile(draws, (0.025, 0.975)) if known else (nan, nan)
        found[name] = Estimate(value, float(low), float(high), n)
    return found


def ratio(
    numerator: Float[np.ndarray, "*draws"] | np.floating,
    denominator: Float[np.ndarray, "*draws"] | np.floating,
) -> Float[np.ndarray, "*draws"]:
    """Divide; NaN where the denominator is zero."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, nan, numerator / safe)


def paired(values_a: Sequence[float], values_b: Sequence[float]) -> Paired:
    """Compare two lists of values over the same items, item by item.

    0/1 values get McNemar's exact test and the interval of Agresti and Min, others a sign-flip
    test (every sign pattern up to 14 non-zero differences, 10 000 seeded draws beyond) and a
    percentile bootstrap of the differences.

    Raises:
        ValueError: The lists differ in length, or a value is not finite.
    """
    if len(values_a) != len(values_b):
        raise ValueError(
            f"paired values are of the same items, got {len(values_a)} and {len(values_b)}. "
            "Keep only the items that both have."
        )
    a, b = _finite("values_a", values_a), _finite("values_b", values_b)
    difference = a - b
    n, wins, losses = len(a), int((difference > 0).sum()), int((difference < 0).sum())
    if n == 0:
        return Paired(nan, nan, nan, nan, 0, 0, 0)
    if _is_binary(a) and _is_binary(b):
        low, high = _matched_interval(wins, losses, n)
        p = _mcnemar(wins, losses)
    else:
        low, high = _bootstrap(difference)
        p = _sign_flip(difference)
    return Paired(float(difference.mean()), low, high, p, n, wins, losses)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust a table of p values so that the chance of any false alarm stays below the level.

    The k-th smallest of m is multiplied by `m - k + 1`, and none falls below a smaller one's.

    Raises:
        ValueError: A p value lies outside [0, 1].
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"a p value lies in [0, 1], got {p} for {name!r}.")
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}


def _finite(name: str, values: Sequence[float]) -> Vector:
    for index, value in enumerate(values):
        if not isfinite(value):
            raise ValueError(
                f"{name} are finite numbers, got {value} at index {index}. Leave out items that "
                "have no value."
            )
    return np.asarray(values, dtype=np.float64)


def _is_binary(values: Vector) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _wilson(successes: int, n: int) -> Estimate:
    share = successes / n
    denominator = 1 + Z95**2 / n
    center = (share + Z95**2 / (2 * n)) / denominator
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / denominator
    return Estimate(share, max(0.0, center - half), min(1.0, center + half), n)


def _bootstrap(values: Vector) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the means of `RESAMPLES` draws with replacement."""
    n = len(values)
    if n == 1:
        return nan, nan
    generator = np.random.default_rng(0)
    means = [
        values[generator.integers(0, n, (BLOCK, n))].mean(axis=1) for _ in range(RESAMPLES // BLOCK)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _drawn_totals(counts: Float[np.ndarray, "units parts"]) -> Totals:
    """Totals of `RESAMPLES` draws of as many units with replacement."""
    units = len(counts)
    generator, share = np.random.default_rng(0), np.full(units, 1 / units)
    blocks = [
        generator.multinomial(units, share, size=BLOCK) @ counts for _ in range(RESAMPLES // BLOCK)
    ]
    return np.concatenate(blocks)


def _matched_interval(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Wald's interval after half an item is added to each cell of the 2 x 2 table."""
    wins_, losses_, n_ = wins + 0.5, losses + 0.5, n + 2
    center = (wins_ - losses_) / n_
    half = Z95 * sqrt(wins_ + losses_ - (wins_ - losses_) ** 2 / n_) / n_
    return max(-1.0, center - half), min(1.0, center + half)


def _mcnemar(wins: int, losses: int) -> float:
    n = wins + losses
    tail = sum(comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**n))


def _sign_flip(difference: Vector) -> float:
    """The share of sign patterns whose sum is at least as far from 0 as the one observed."""
    moved = difference[difference != 0]
    n = len(moved)
    # Sums of the same numbers in another order differ in the last bits: count them as equal.
    bar = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    if n <= ENUMERABLE:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ moved) >= bar).mean())
    generator = np.random.default_rng(0)
    beyond = 0
    for _ in range(FLIPS // BLOCK):
        signs = generator.integers(0, 2, (BLOCK, n)) * 2.0 - 1.0
        beyond += int((np.abs(signs @ moved) >= bar).sum())
    return (1 + beyond) / (1 + FLIPS)
