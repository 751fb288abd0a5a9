"""VCD subtracts what the model says of a picture drowned in noise: its language prior.

Leng et al. 2023, "Mitigating Object Hallucinations in Large Vision-Language Models through Visual
Contrastive Decoding", arXiv 2311.16922. The noise is the forward process of a diffusion, of 1000
steps with a sigmoid schedule, added to the pixels as the processor normalised them, independently
for each picture. The authors sample; any search will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import at_least, fraction, whole
from .method import Inputs, Logits, Steps
from .noise import NOISE_STEPS, noised
from .pictured import Prompts
from .plausible import apart
from .shift import Shift


@dataclass(frozen=True)
class VCD(Shift):
    """`(1 + alpha) * l(v) - alpha * l(noised v)` on the plausible tokens.

    Attributes:
        alpha: Strength of the contrast.
        cutoff: Least share of the best token's probability; the authors' POPE script takes 0.2.
        noise_step: How far the picture is dissolved, from 0 to 999.
    """

    paper: ClassVar[str] = "Leng et al. 2023, arXiv 2311.16922"

    alpha: float = 1.0
    cutoff: float = 0.1
    noise_step: int = 500

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)
        fraction("cutoff", self.cutoff)
        whole("noise_step", self.noise_step, 0)
        if self.noise_step >= NOISE_STEPS:
            raise ValueError(
                f"noise_step must be below {NOISE_STEPS}, got {self.noise_step}. The authors take "
                "500 and 999."
            )

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        return self.alpha * apart(expert, contrast)

    def views(self, prompts: Prompts) -> list[Inputs]:
        return [noised(prompts, self.noise_step)]
