"""M3ID leans on the picture the harder, the longer the answer: its memory of it fades.

Favero et al. 2024, "Multi-Modal Hallucination Control by Visual Information Grounding", arXiv
2403.14003, as RITUAL's authors implement it. The first token has no contrast, so an answer of one
token is what the plausibility cutoff leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from .checks import at_least, fraction
from .method import Inputs, Logits, Steps
from .pictured import Prompts
from .plausible import apart
from .shift import Shift
from .unseen import without_images

# Beyond e^60 the expert itself is lost in rounding, and float32 ends at e^88.
_STRONGEST = 60.0


@dataclass(frozen=True)
class M3ID(Shift):
    """`l + (1 - g) / g * (l - l_no_image)` on the plausible tokens, `g = exp(-decay * t)`.

    Attributes:
        decay: How fast the picture is forgotten; t counts the tokens generated before.
        cutoff: Least share of the best token's probability that a token must have.
    """

    paper: ClassVar[str] = "Favero et al. 2024, arXiv 2403.14003"

    decay: float = 0.02
    cutoff: float = 0.1

    def __post_init__(self) -> None:
        at_least("decay", self.decay, 0)
        fraction("cutoff", self.cutoff)

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        faded = self.decay * torch.as_tensor(steps, dtype=expert.dtype, device=expert.device)
        # (1 - g) / g = e^x - 1 with g = e^-x.
        return torch.expm1(faded.clamp(max=_STRONGEST)) * apart(expert, contrast)

    def views(self, prompts: Prompts) -> list[Inputs]:
        return [without_images(prompts.processor, prompts.messages)]
