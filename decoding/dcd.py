"""DCD subtracts what a projection trained on hallucinated answers makes of the same picture.

Chen et al. 2025, "Decoupling Contrastive Decoding: Robust Hallucination Mitigation in Multimodal
Large Language Models", arXiv 2504.08809. Two image projections are trained apart, a positive one on
chosen answers and a negative one on rejected ones; in the variant *Neg-only* the model's own is the
positive one. There is no code of the authors': alpha, and a plausibility cutoff, are ours.

Where there is a positive projection and the method runs as a plain logits processor, the scores
that generate hands over are the model's own: they say which tokens are banned, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from .checks import at_least, fraction
from .eyes import Eyes, eyes
from .method import Branch, Inputs, Logits, Source, Steps
from .pictured import Prompts
from .plausible import apart
from .projections import Projections, load
from .projectors import modules
from .prompts import encode
from .refusals import unwrapped
from .shift import Shift
from .vocabulary import place_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class DCD(Shift):
    """`(1 + alpha) * l_positive - alpha * l_negative` on the plausible tokens.

    Attributes:
        path: The folder of the projections, from `contralign train dcd`.
        alpha: Strength of the contrast.
        cutoff: Least share of the best token's probability; None keeps every token.
    """

    paper: ClassVar[str] = "Chen et al. 2025, arXiv 2504.08809"

    path: str | None = None
    alpha: float = 1.0
    cutoff: float | None = 0.1

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)
        if self.cutoff is not None:
            fraction("cutoff", self.cutoff)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **parameters: Any) -> DCD:
        """Make the method of trained projections.

        Args:
            folder: Where training saved them.
            **parameters: The others.

        Raises:
            ValueError: The folder holds none.
        """
        load(folder)
        return cls(str(folder), **parameters)

    @property
    def digest(self) -> str:
        return "" if self.path is None else load(self.path).digest

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        (negative,) = contrasts
        return self.alpha * apart(expert, negative)

    def views(self, prompts: Prompts) -> list[Inputs]:
        """Encode the prompts as they are: the main inputs themselves do as well."""
        return [encode(prompts.processor, prompts.messages, prompts.images)]

    def expert(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model as it sees through the positive projection.

        Raises:
            ValueError: No projections were named, or they are of another model.
        """
        positive = self._projections(model).positive
        return Eyes(model).through(None if positive is None else modules(model, positive))

    def sources(
        self, model: PreTrainedModel, inputs: Inputs, branch: Sequence[Inputs]
    ) -> list[Source]:
        """Read the branch through the negative projection.

        Raises:
            ValueError: No projections were named, they are of another model, or there is no
                picture in the inputs.
        """
        super().sources(model, inputs, branch)
        own = eyes(model) or Eyes(unwrapped(model))
        _check_seen(branch[0], own.model)
        negative = modules(own.model, self._projections(own.model).negative)
        return [Branch(branch[0], own.through(negative))]

    def _projections(self, model: Any) -> Projections:
        if self.path is None:
            raise ValueError(
                "DCD needs trained projections, got path=None. Train them (contralign train dcd) "
                "and pass DCD.from_pretrained(folder), or dcd:path=FOLDER."
            )
        found = load(self.path)
        found.check(model)
        return found


def _check_seen(given: Inputs, model: PreTrainedModel) -> None:
    if "pixel_values" not in given or "pixel_values_videos" in given:
        raise ValueError(
            f"DCD is about pictures, got inputs of {', '.join(given)}. Pass those that the "
            "processor makes of prompts with images, or choose a method for text."
        )
    places = torch.tensor(place_ids(model), device=given["input_ids"].device)
    blind = (~torch.isin(given["input_ids"], places).any(-1)).nonzero().flatten().tolist()
    if blind:
        raise ValueError(
            f"DCD is about pictures, but prompts {blind} have none. Leave them out, or choose a "
            "method for text."
        )
