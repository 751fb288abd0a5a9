"""Several methods on pictures at once: the expert, and what each of them adds.

Woo et al. 2024, arXiv 2405.17821, combine RITUAL with VCD and with M3ID:
`l(v) + kappa * l(T(v)) + alpha * (l(v) - l(v'))`. Other combinations are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from .method import Inputs, Logits, Source, Steps
from .pictured import Prompts
from .shift import Shift

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
    def cutoff(self) -> float | None:
        return self.parts[0].cutoff

    @property
    def contrasts(self) -> int:
        return sum(part.contrasts for part in self.parts)

    @property
    def digest(self) -> str:
        return "".join(part.digest for part in self.parts)

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        total = torch.zeros_like(expert)
        for part, own in self._shared(contrasts):
            total = total + part.shift(steps, expert, *own)
        return total

    def expert(self, model: PreTrainedModel) -> PreTrainedModel:
        for part in self.parts:
            model = part.expert(model)
        return model

    def sources(
        self, model: PreTrainedModel, inputs: Inputs, branch: Sequence[Inputs]
    ) -> list[Source]:
        super().sources(model, inputs, branch)
        shared = self._shared(branch)
        return [source for part, own in shared for source in part.sources(model, inputs, own)]

    def _shared(self, items: Sequence[Any]) -> list[tuple[Shift, Sequence[Any]]]:
        """Give each part as many, in their order, as it has contrasts."""
        ends = [*accumulate(part.contrasts for part in self.parts)]
        return [
            (part, items[end - part.contrasts : end])
            for part, end in zip(self.parts, ends, strict=True)
        ]

    def views(self, prompts: Prompts) -> list[Inputs]:
        return [inputs for part in self.parts for inputs in part.views(prompts)]
