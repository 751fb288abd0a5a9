"""VDD subtracts what the model says without the picture: its bias towards what texts say.

Zhang et al. 2024, "Debiasing Multimodal Large Language Models", arXiv 2403.05262: debias sampling.
The picture is left out, or replaced by one unknown token; with both, their logits are averaged.
Which of the three is the default is ours. Their post-hoc debiasing of closed answers is
`Calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from PIL.Image import Image
from torch import Tensor

from .checks import at_least, fraction, one_of
from .method import Inputs, Logits, Steps
from .plausible import apart, lifted
from .prompts import Messages
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

    def views(
        self,
        processor: Any,
        messages: Sequence[Messages],
        images: Sequence[Sequence[Image]],
        seeds: Sequence[int],
        model: Any,
    ) -> list[Inputs]:
        return [*counterfactuals(self.counterfactual, processor, messages, images)]


def counterfactuals(
    kind: Counterfactual,
    processor: Any,
    messages: Sequence[Messages],
    images: Sequence[Sequence[Image]],
) -> list[dict[str, Tensor]]:
    """Encode prompts whose pictures are withheld, one or both ways."""
    built = []
    if kind != "unk":
        built.append(without_images(processor, messages))
    if kind != "none":
        built.append(with_unknown(processor, messages, [len(row) for row in images]))
    return built
