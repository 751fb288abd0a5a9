"""Methods that add something to the expert's logits, so that they add up.

RITUAL's authors combine it with VCD and M3ID that way (Woo et al. 2024, arXiv 2405.17821): what
each adds is summed on top of the expert, under one plausibility cutoff.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial

from .method import Logits, Rule, Steps
from .pictured import Pictured
from .plausible import plausible


class Shift(Pictured):
    """`l + shift` where `l >= log(cutoff) + max(l)`, else `-inf`."""

    @property
    @abstractmethod
    def cutoff(self) -> float | None:
        """Least share of the best token's probability that a token must have; None keeps all."""

    @abstractmethod
    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        """What the method adds to the expert's logits: finite, whatever is forbidden.

        Args:
            steps: How many tokens were generated before each position.
            expert: Raw float32 logits of the main branch.
            *contrasts: The same of each other branch.
        """

    def at(self, steps: Steps) -> Rule:
        return partial(self._added, steps)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        return self._added(0, expert, *contrasts)

    def _added(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        scores = expert + self.shift(steps, expert, *contrasts)
        return scores.masked_fill(~plausible(expert, self.cutoff), -math.inf)
