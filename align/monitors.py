"""What watches a run and speaks up: once, when there is something to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

DISPLACED_NATS, DISPLACED_SHARE, LINES_IN_A_ROW = 1.0, 0.01, 2
STILL_UPDATES = 10
SATURATED_SHARE = 0.5


@dataclass
class Displacement:
    """Notices that the chosen answers become less likely while the margins rise.

    "Likelihood displacement": Razin et al. 2024, "Unintentional Unalignment", arXiv 2410.08847.
    When is ours: chosen log-probs fell by more than 1 nat and 1% since training began, and rejected
    ones by more, in two lines of the log in a row.

    Attributes:
        lines: Lines in a row that showed it.
    """

    lines: int = 0

    def __call__(self, logs: Mapping[str, float]) -> str | None:
        """Look at a line of the log."""
        chosen = logs.get("logps/chosen_drift", 0.0)
        rejected = logs.get("logps/rejected_drift", 0.0)
        far = max(DISPLACED_NATS, DISPLACED_SHARE * abs(logs.get("logps/chosen", 0.0)))
        self.lines = self.lines + 1 if chosen < -far and rejected < chosen else 0
        if self.lines != LINES_IN_A_ROW:
            return None
        return (
            f"likelihood displacement: chosen answers lost {-chosen:.1f} nats since the start "
            f"(rejected ones {-rejected:.1f}), so the margins rise while what you want becomes "
            "less likely; the probability goes to answers that are in neither column. Lower "
            "learning_rate or the number of epochs, raise beta, or drop pairs whose answers are "
            "alike."
        )


@dataclass
class Standstill:
    """Notices that the policy still equals its reference though updates should have moved it.

    Attributes:
        updates: Updates so far with a learning rate above 0.
    """

    updates: int = 0

    def __call__(self, logs: Mapping[str, float], updates: int) -> str | None:
        """Look at a line of the log, and at the updates it covers."""
        margin = logs.get("rewards/margins")
        if margin is None or logs.get("learning_rate", 0.0) <= 0:
            return None
        before, self.updates = self.updates, self.updates + updates
        still = margin == 0 == logs.get("rewards/chosen")
        if not (still and before < STILL_UPDATES <= self.updates):
            return None
        return (
            f"after {self.updates} updates policy and reference still give every answer the same "
            "log-prob. Either the reference moves with the policy (the same weights, or an adapter "
            "that is never switched off), or updates vanish in rounding: weights in bfloat16 lose "
            "what is smaller than a 256th of them. Load in float32 (dtype: float32, bf16: true) or "
            "raise learning_rate."
        )


def saturation(logs: Mapping[str, float]) -> str | None:
    """Notice that CPL's lambda, not the preferences, decides what is learned.

    When is ours: in more than half of the pairs of a line the sigmoid is flat because of it.
    """
    share = logs.get("rewards/saturated", 0.0)
    if share <= SATURATED_SHARE:
        return None
    return (
        f"lmbda saturates CPL: in {share:.0%} of the pairs (1 - lmbda) * |S_rejected| outweighs "
        "the difference of chosen and rejected, so the sigmoid is flat, chosen answers are only "
        "imitated and rejected ones only made unlikely. Set lmbda: 1, average: true, or a smaller "
        "alpha."
    )


@dataclass
class Watch:
    """All that is looked for in the log; each thing is told once.

    Attributes:
        told: What was said so far, for the model card.
    """

    told: dict[str, str] = field(default_factory=dict)
    displacement: Displacement = field(default_factory=Displacement)
    standstill: Standstill = field(default_factory=Standstill)

    def __call__(self, logs: Mapping[str, float], updates: int) -> list[str]:
        """Look at a line of the log.

        Args:
            logs: Name -> number; numbers that aren't finite say nothing here.
            updates: Updates since the line before.

        Returns:
            What is new to say.
        """
        finite = {
            name: value
            for name, value in logs.items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        }
        found = {
            "displacement": self.displacement(finite),
            "standstill": self.standstill(finite, updates),
            "saturation": saturation(finite),
        }
        new = {name: text for name, text in found.items() if text and name not in self.told}
        self.told.update(new)
        return list(new.values())
