"""Several methods on pictures at once: the expert, and what each of them adds.

Woo et al. 2024, arXiv 2405.17821, combine RITUAL with VCD and with M3ID:
`l(v) + kappa * l(T(v)) + alpha * (l(v) - l(v'))`. Other combinations are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from .method import Inputs, Logits, Steps
from .pictured import Prompts
from .shift import Shift


@dataclass(frozen=True)
class Composed(Shift):
    """`l + shift_1 + shift_2 + ...` on the plausible tokens, one cutoff for all.

    Attributes:
        parts: Different methods with one cutoff.
    """

    paper: ClassVar[str] = "Woo et al. 2024, arXiv 2405.17821"

    parts: tuple[Shift, ...]

    def __post_init__(self) -> None:
        kinds = [type(part).__name__ for part in self.parts]
        if len(set(kinds)) < max(2, len(kinds)):
            raise ValueError(
                f"a composition takes two or more different methods, got {kinds}. Drop repeats."
            )
        cutoffs = [part.cutoff for part in self.parts]
        if len(set(cutoffs)) > 1:
            raise ValueError(
                f"methods that are combined share one plausibility cutoff, got {cutoffs} for "
                f"{kinds}. Write the same cutoff for each."
            )

    @property
    def cutoff(self) -> float:
        return self.parts[0].cutoff

    @property
    def contrasts(self) -> int:
        return sum(part.contrasts for part in self.parts)

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        total, start = torch.zeros_like(expert), 0
        for part in self.parts:
            own = contrasts[start : start + part.contrasts]
            total, start = total + part.shift(steps, expert, *own), start + part.contrasts
        return total

    def views(self, prompts: Prompts) -> list[Inputs]:
        return [inputs for part in self.parts for inputs in part.views(prompts)]
