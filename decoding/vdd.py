"""VDD subtracts what the model says without the picture: its bias towards what texts say.

Zhang et al. 2024, "Debiasing Multimodal Large Language Models", arXiv 2403.05262: debias sampling.
The picture is left out, or replaced by one unknown token; with both, their logits are averaged.
Which of the three is the default is ours. Their post-hoc debiasing of closed answers is
`Calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from .checks import at_least, fraction, one_of
from .method import Inputs, Logits, Steps
from .pictured import Prompts
from .plausible import apart, lifted
from .shift import Shift
from .unseen import with_unknown, without_images

COUNTERFACTUALS = ("none", "unk", "both")
Counterfactual = Literal["none", "unk", "both"]


@dataclass(frozen=True)
class VDD(Shift):
    """`(1 + alpha) * l(v) - alpha * l'` on the plausible tokens, `l'` without the picture.

    Attributes:
        counterfactual: `none` leaves the picture out, `unk` puts one unknown token in its place,
            `both` takes the mean of the two.
        alpha: Strength of the contrast.
        cutoff: Least share of the best token's probability; the authors' POPE script takes 0.2.
    """

    paper: ClassVar[str] = "Zhang et al. 2024, arXiv 2403.05262"

    counterfactual: Literal["none", "unk", "both"] = "none"
    alpha: float = 1.0
    cutoff: float = 0.1

    def __post_init__(self) -> None:
        one_of("counterfactual", self.counterfactual, COUNTERFACTUALS)
        at_least("alpha", self.alpha, 0)
        fraction("cutoff", self.cutoff)

    @property
    def contrasts(self) -> int:
        return 2 if self.counterfactual == "both" else 1

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        contrast = torch.stack([lifted(x) for x in contrasts]).mean(dim=0)
        return self.alpha * apart(expert, contrast)

    def views(self, prompts: Prompts) -> list[Inputs]:
        return counterfactuals(self.counterfactual, prompts)


def counterfactuals(kind: Counterfactual, prompts: Prompts) -> list[Inputs]:
    """Encode prompts whose pictures are withheld, one or both ways."""
    built: list[Inputs] = []
    if kind != "unk":
        built.append(without_images(prompts.processor, prompts.messages))
    if kind != "none":
        counts = [len(row) for row in prompts.images]
        built.append(with_unknown(prompts.processor, prompts.messages, counts))
    return built
