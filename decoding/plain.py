"""The two baselines of every method: the model itself, and the plausibility cutoff alone.

`cutoff-only` is the plausibility constraint of Li et al. 2022, "Contrastive Decoding: Open-ended
Text Generation as Optimization", arXiv 2210.15097, without any contrast: what a method gains beyond
it is the contrast's doing. Under greedy search it is plain decoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .checks import fraction
from .method import Inputs, Logits, Source
from .plausible import plausible
from .promptless import Promptless

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Plain(Promptless):
    """`l`: the model as it is."""

    paper: ClassVar[str] = "the model itself"

    @property
    def contrasts(self) -> int:
        return 0

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        () = contrasts
        return expert

    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        return []


@dataclass(frozen=True)
class CutoffOnly(Promptless):
    """`l` where `l >= log(cutoff) + max(l)`, else `-inf`.

    Attributes:
        cutoff: Least share of the best token's probability that a token must have.
    """

    paper: ClassVar[str] = "Li et al. 2022, arXiv 2210.15097, without the contrast"

    cutoff: float = 0.1

    @property
    def contrasts(self) -> int:
        return 0

    def __post_init__(self) -> None:
        fraction("cutoff", self.cutoff)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        () = contrasts
        return expert.masked_fill(~plausible(expert, self.cutoff), -math.inf)

    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        return []
