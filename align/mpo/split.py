"""Pairs split by how surely a reward tells their answers apart.

Gou & Nguyen 2024, "Mixed Preference Optimization", arXiv 2403.19443: with `gap = r(chosen) -
r(rejected)` a pair is easy iff `gap >= gamma`, else difficult. How gamma is chosen, and what
becomes of gaps that aren't positive, is ours: a tie, which the reward doesn't tell apart, is
difficult whatever gamma is, and so is by default a negative gap, where it contradicts the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any, Literal

import numpy as np

Negative = Literal["difficult", "drop", "flip"]
NEGATIVE: tuple[Negative, ...] = ("difficult", "drop", "flip")
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
QUANTILE = 0.5  # where neither gamma nor a quantile is set; ours


@dataclass(frozen=True)
class Rule:
    """How pairs are split.

    Attributes:
        gamma: The smallest gap of an easy pair, in units of the reward; or None.
        quantile: Of the gaps, which gamma is then, in (0, 1); or None. Both None is 0.5.
        negative: What becomes of a negative gap. difficult: it's difficult, whatever gamma is;
            drop: the pair is left out; flip: its answers change places, and its gap the sign.

    Raises:
        ValueError: Both are set, or a value is out of range.
    """

    gamma: float | None = None
    quantile: float | None = None
    negative: str = "difficult"

    def __post_init__(self) -> None:
        if self.negative not in NEGATIVE:
            raise ValueError(
                f"negative_gaps is one of {', '.join(NEGATIVE)}, got {self.negative!r}."
            )
        if self.gamma is not None and self.quantile is not None:
            raise ValueError(
                f"gamma is a value or a quantile, got gamma {self.gamma} and gamma_quantile "
                f"{self.quantile}. Leave one of them out."
            )
        if self.gamma is not None and not np.isfinite(self.gamma):
            raise ValueError(f"gamma must be a finite number, got {self.gamma}.")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ValueError(
                f"gamma_quantile must lie in (0, 1), got {self.quantile}. The median is 0.5."
            )


@dataclass(frozen=True)
class Split:
    """Rows of the data by their numbers.

    Attributes:
        gamma: The smallest gap of an easy pair.
        gaps: Of all pairs, as the data has them.
        easy: Pairs for stage 1.
        difficult: Pairs whose prompts are for stage 2.
        dropped: Pairs for neither.
        flipped: Pairs, of either side, whose answers changed places.
    """

    gamma: float
    gaps: Sequence[float]
    easy: Sequence[int]
    difficult: Sequence[int]
    dropped: Sequence[int]
    flipped: Sequence[int]

    def summary(self) -> dict[str, Any]:
        """Sizes, ties, the share of negative gaps, gamma, and quantiles of the gaps."""
        negative = sum(gap < 0 for gap in self.gaps)
        return {
            "pairs": len(self.gaps),
            "easy": len(self.easy),
            "difficult": len(self.difficult),
            "dropped": len(self.dropped),
            "flipped": len(self.flipped),
            "ties": sum(gap == 0 for gap in self.gaps),
            "negative_share": negative / len(self.gaps),
            "gamma": self.gamma,
            "quantiles": {str(q): float(np.quantile(self.gaps, q)) for q in QUANTILES},
        }


def gaps(scores: Sequence[Sequence[float]]) -> list[float]:
    """By how much each chosen answer is better than the rejected one.

    Args:
        scores: Of the chosen and the rejected answer of each pair.
    """
    return [chosen - rejected for chosen, rejected in scores]


def split(found: Sequence[float], rule: Rule) -> Split:
    """Split pairs by their gaps.

    A quantile is one of the gaps that the rule leaves: without those it drops, and with the new
    sign of those it flips. It's interpolated linearly.

    Args:
        found: The gap of each pair.
        rule: How.

    Raises:
        ValueError: A side is empty; says how large gaps are, and the way out.
    """
    negative = [i for i, gap in enumerate(found) if gap < 0]
    dropped = negative if rule.negative == "drop" else []
    flipped = negative if rule.negative == "flip" else []
    left_out, turned = set(dropped), set(flipped)
    kept = {i: -gap if i in turned else gap for i, gap in enumerate(found) if i not in left_out}
    gamma = _gamma(list(kept.values()), rule)
    # A tie, or a negative gap that is left, is difficult.
    easy = [i for i, gap in kept.items() if gap >= gamma and gap > 0]
    chosen = set(easy)
    difficult = [i for i in kept if i not in chosen]
    made = Split(gamma, list(found), easy, difficult, dropped, flipped)
    _check_sides(made, rule)
    return made


def _gamma(kept: Sequence[float], rule: Rule) -> float:
    if rule.gamma is not None:
        asked = float(rule.gamma)
    else:
        wanted = QUANTILE if rule.quantile is None else rule.quantile
        asked = float(np.quantile(kept, wanted)) if kept else 0.0
    # A gap of gamma is easy, however a difference of scores is rounded.
    return min([asked, *(gap for gap in kept if isclose(gap, asked, rel_tol=1e-9))])


def _check_sides(made: Split, rule: Rule) -> None:
    empty = [name for name in ("easy", "difficult") if not getattr(made, name)]
    if not empty:
        return
    told = made.summary()
    shown = ", ".join(f"{value:.4g} at {q}" for q, value in told["quantiles"].items())
    ways: dict[tuple[str, ...], str] = {
        ("easy",): "Lower gamma, for what a reward agrees with; if it contradicts most pairs, set "
        "negative_gaps: flip, or take another reward.",
        ("difficult",): "Raise gamma; or, if no prompt needs stage 2, train with contralign train "
        "dpo.",
    }
    way_out = ways.get(tuple(empty), "Take another negative_gaps: it drops all pairs.")
    if len(made.gaps) > 1 and len(set(made.gaps)) == 1:
        way_out = "All gaps are the same, so no gamma splits these pairs. Take another reward."
    raise ValueError(
        f"both sides of the split need pairs, got {told['easy']} easy and {told['difficult']} "
        f"difficult ({told['dropped']} dropped) of {told['pairs']} at gamma {made.gamma:.4g} with "
        f"negative_gaps: {rule.negative}. Quantiles of the gaps: {shown}. {way_out}"
    )
