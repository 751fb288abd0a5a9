"""Classifier-free guidance follows the prompt harder than the model would by itself.

Sanchez et al. 2023, "Stay on topic with Classifier-Free Guidance", arXiv 2306.17806. The formula is
that of transformers' `guidance_scale`, and `CFG(1 + alpha)` is `CAD(alpha)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import positive
from .method import Logits, Method
from .plausible import contrasted


@dataclass(frozen=True)
class CFG(Method):
    """`l' + scale * (l - l')`, `l'` from the unconditional or negative prompt.

    Attributes:
        scale: 1 is plain decoding; below 1 the other prompt is followed too. The default is ours.
    """

    paper: ClassVar[str] = "Sanchez et al. 2023, arXiv 2306.17806"

    scale: float = 1.5

    def __post_init__(self) -> None:
        positive("scale", self.scale)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        return contrasted(expert, contrast, self.scale - 1)
