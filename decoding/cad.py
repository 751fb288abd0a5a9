"""CAD amplifies what the context changes.

Shi et al. 2023, "Trusting Your Evidence: Hallucinate Less with Context-aware Decoding",
arXiv 2305.14739, Eq. 3. No plausibility cutoff, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import at_least
from .method import Logits, Method
from .plausible import contrasted


@dataclass(frozen=True)
class CAD(Method):
    """`(1 + alpha) * l_context - alpha * l_no_context`.

    Attributes:
        alpha: Strength of the contrast; the paper's 0.5 for summaries, 1.0 for NQ-Swap.
    """

    paper: ClassVar[str] = "Shi et al. 2023, arXiv 2305.14739"

    alpha: float = 0.5

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        return contrasted(expert, contrast, self.alpha)
