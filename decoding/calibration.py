"""Calibration divides the probability of each closed answer by that which it has unseen.

Zhang et al. 2024, "Debiasing Multimodal Large Language Models", arXiv 2403.05262: post-hoc
debiasing, `q_k = p_k / p'_k` over the labels, an affine map with the diagonal `1 / p'` of Zhao et
al. 2021, "Calibrate Before Use", arXiv 2102.09690. As in the authors' code, `p'` is normalised over
the labels and then raised by 1e-4. They look for a label among the ten best tokens (a hundred for
options) and take its first form: `forms="first", top_k=10`. Adding up all its forms is ours, and
the default.

It can't generate: `closed` weighs labels by their first token, `score` longer answers token by
token as `log p - log p'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .checks import one_of, whole
from .divergence import log_probs
from .method import Inputs, Logits
from .pictured import Pictured, Prompts
from .plausible import lifted
from .vdd import COUNTERFACTUALS, counterfactuals

_RAISED = 1e-4

Labels = Float[Tensor, "rows labels"]


@dataclass(frozen=True)
class Calibration(Pictured):
    """`log p - log p'`, `p'` the probability without the picture.

    Attributes:
        counterfactual: `none` leaves the picture out, `unk` puts one unknown token in its place,
            `both` takes the mean of the two probabilities.
        forms: `sum` adds a label's forms up (Yes, yes, ...), `first` takes the likeliest.
        top_k: Look for forms among the k best tokens of a row; None looks at all.
        calibrate: Divide by each example's own `p'`, or by the mean over the `dataset`, which is
            the rows of one call.
    """

    paper: ClassVar[str] = "Zhang et al. 2024, arXiv 2403.05262"
    generates: ClassVar[bool] = False

    counterfactual: Literal["none", "unk", "both"] = "none"
    forms: Literal["sum", "first"] = "sum"
    top_k: int | None = None
    calibrate: Literal["example", "dataset"] = "example"

    def __post_init__(self) -> None:
        one_of("counterfactual", self.counterfactual, COUNTERFACTUALS)
        one_of("forms", self.forms, ("sum", "first"))
        one_of("calibrate", self.calibrate, ("example", "dataset"))
        if self.top_k is not None:
            whole("top_k", self.top_k, 1)

    @property
    def contrasts(self) -> int:
        return 2 if self.counterfactual == "both" else 1

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        unseen = torch.stack([log_probs(x) for x in contrasts]).logsumexp(dim=0)
        ratios = log_probs(expert) - lifted(log_probs(unseen))
        return ratios.masked_fill(expert.isneginf(), -torch.inf)

    def logps(self, scores: Logits) -> Logits:
        """Leave the ratios as they are: they sum up over an answer's tokens."""
        return scores

    def views(self, prompts: Prompts) -> list[Inputs]:
        return counterfactuals(self.counterfactual, prompts)

    def labels(
        self, logps: Float[Tensor, "rows vocab"], forms: Sequence[Sequence[int]]
    ) -> tuple[Labels, Bool[Tensor, " rows"]]:
        """Read the labels off a first token's log-probs.

        Args:
            logps: Nats, of every token.
            forms: The ids that say each label.

        Returns:
            Nats for each label, `-inf` where no form is among the k best; and whether a row has
            them all.
        """
        if self.top_k is not None:
            least = logps.topk(min(self.top_k, logps.shape[-1]), dim=-1).values[:, -1:]
            logps = logps.masked_fill(logps < least, -torch.inf)
        spoken = [logps[:, list(ids)] for ids in forms]
        added = [x.logsumexp(-1) if self.forms == "sum" else x.amax(-1) for x in spoken]
        found = torch.stack(added, dim=-1)
        return found, ~found.isneginf().any(-1)

    def debiased(self, seen: Labels, unseen: Sequence[Labels]) -> Labels:
        """Divide: `log q` over the labels.

        Args:
            seen: Nats of each label with the picture.
            unseen: The same without it, for each counterfactual.
        """
        prior = torch.stack([x.softmax(-1) for x in unseen]).mean(dim=0)
        if self.calibrate == "dataset":
            prior = prior.mean(dim=0, keepdim=True)
        return (seen - (prior + _RAISED).log()).log_softmax(-1)
