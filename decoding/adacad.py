"""AdaCAD contrasts as much as context and memory disagree, token by token.

Wang et al. 2024, "AdaCAD: Adaptively Decoding to Balance Conflicts between Contextual and
Parametric Knowledge", arXiv 2409.07394. The divergence is taken over the full distributions, one
value for each row, with the natural logarithm as in the authors' code: alpha ranges up to log 2 =
0.693. No plausibility cutoff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import at_least, one_of
from .divergence import jsd, log_probs
from .method import Logits, Method
from .plausible import contrasted


@dataclass(frozen=True)
class AdaCAD(Method):
    """`(1 + a) * l_context - a * l_no_context` with `a = max(floor, JSD(p_context, p_no_context))`.

    Attributes:
        floor: Least strength: the paper's warm-up, 0.3 for long answers such as summaries, else 0.
        base: Logarithm of the divergence: `e` for a in [0, 0.693], `2` for a in [0, 1].
    """

    paper: ClassVar[str] = "Wang et al. 2024, arXiv 2409.07394"

    floor: float = 0.0
    base: Literal["e", "2"] = "e"

    def __post_init__(self) -> None:
        at_least("floor", self.floor, 0)
        one_of("base", self.base, ("e", "2"))

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        alpha = jsd(log_probs(expert), log_probs(contrast))
        if self.base == "2":
            alpha = alpha / math.log(2)
        return contrasted(expert, contrast, alpha.clamp(min=self.floor).unsqueeze(-1))
