"""Contrastive decoding prefers what a strong model knows and a weak one does not.

Li et al. 2022, "Contrastive Decoding: Open-ended Text Generation as Optimization",
arXiv 2210.15097; O'Brien & Lewis 2023, "Contrastive Decoding Improves Reasoning in Large Language
Models", arXiv 2309.09117.

Unlike the authors' code of the first, the amateur's log-probs are normalised after the division by
its temperature, so that beams compare; and its hidden top-50 filter is `top_k`, off by default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .amateur import amateur_branch, amateur_digest
from .checks import at_least, fraction, one_of, positive, whole
from .divergence import log_probs
from .method import Inputs, Logits, Source
from .plausible import contrasted, lifted, plausible
from .promptless import Promptless

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _AgainstAmateur(Promptless):
    amateur: Any = None

    @property
    def digest(self) -> str:
        return amateur_digest(self.amateur)


@dataclass(frozen=True)
class CD(_AgainstAmateur):
    """`log p_expert - coef * log_softmax(l_amateur / amateur_temperature)` on the plausible tokens.

    Attributes:
        amateur: A loaded model, a hub id or path, or `base` for a PEFT model with its adapter off.
        coef: Strength of the contrast.
        amateur_temperature: 1.0 for OPT-125m; the authors take 0.5 for GPT-2 small.
        cutoff: Least share of the expert's best probability that a token must have.
        amateur_context: What the amateur reads: the `full` prompt, or as in the paper its
            `last_token` only; the continuation always.
        top_k: Keep the expert's k best tokens at most; None keeps all.
    """

    paper: ClassVar[str] = "Li et al. 2022, arXiv 2210.15097"

    coef: float = 1.0
    amateur_temperature: float = 1.0
    cutoff: float = 0.1
    amateur_context: Literal["full", "last_token"] = "last_token"
    top_k: int | None = None

    def __post_init__(self) -> None:
        at_least("coef", self.coef, 0)
        positive("amateur_temperature", self.amateur_temperature)
        fraction("cutoff", self.cutoff)
        one_of("amateur_context", self.amateur_context, ("full", "last_token"))
        if self.top_k is not None:
            whole("top_k", self.top_k, 1)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        amateur = lifted(log_probs(contrast / self.amateur_temperature))
        kept = plausible(expert, self.cutoff)
        if self.top_k is not None:
            best = expert.topk(min(self.top_k, expert.shape[-1]), dim=-1).values
            kept = kept & (expert >= best[..., -1:])
        return (log_probs(expert) - self.coef * amateur).masked_fill(~kept, -math.inf)

    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        """Let the amateur read the prompt.

        Raises:
            ValueError: No amateur was named, or it does not share the model's vocabulary.
        """
        return [amateur_branch(model, inputs, self.amateur, self.amateur_context)]


@dataclass(frozen=True)
class ImprovedCD(_AgainstAmateur):
    """`(1 + beta) * l_expert - beta * l_amateur` where `l_expert >= log(alpha) + max(l_expert)`.

    Attributes:
        amateur: A loaded model, a hub id or path, or `base` for a PEFT model with its adapter off.
            It reads the full prompt.
        alpha: The cutoff: least share of the expert's best probability that a token must have.
        beta: Strength of the contrast.
    """

    paper: ClassVar[str] = "O'Brien & Lewis 2023, arXiv 2309.09117"

    alpha: float = 0.1
    beta: float = 0.5

    def __post_init__(self) -> None:
        fraction("alpha", self.alpha)
        at_least("beta", self.beta, 0)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        scores = contrasted(expert, contrast, self.beta)
        return scores.masked_fill(~plausible(expert, self.alpha), -math.inf)

    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        """Let the amateur read the prompt.

        Raises:
            ValueError: No amateur was named, or it does not share the model's vocabulary.
        """
        return [amateur_branch(model, inputs, self.amateur, "full")]
