"""RITUAL adds what the model says of a randomly transformed picture: a second look.

Woo et al. 2024, "RITUAL: Random Image Transformations as a Universal Anti-hallucination Lever in
LVLMs", arXiv 2405.17821. One of six transformations is drawn for each prompt and applied to its
pictures before the processor. As in the authors' code the sum is not normalised: were both looks
the same, it would be plain decoding at temperature `1 / (1 + kappa)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .checks import at_least, fraction
from .method import Inputs, Logits, Steps
from .pictured import Prompts
from .plausible import apart, lifted
from .prompts import encode
from .seeding import generator
from .shift import Shift
from .transformations import TRANSFORMATIONS, input_size


@dataclass(frozen=True)
class RITUAL(Shift):
    """`l(v) + kappa * l(T(v))` on the plausible tokens, T a random transformation.

    Attributes:
        kappa: Weight of the second look.
        cutoff: Least share of the best token's probability that a token must have.
        normalize: Divide by `1 + kappa`: two equal looks leave the distribution as it is.
    """

    paper: ClassVar[str] = "Woo et al. 2024, arXiv 2405.17821"

    kappa: float = 3.0
    cutoff: float = 0.1
    normalize: bool = False

    def __post_init__(self) -> None:
        at_least("kappa", self.kappa, 0)
        fraction("cutoff", self.cutoff)

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        (second,) = contrasts
        if self.normalize:
            return self.kappa / (1 + self.kappa) * apart(second, expert)
        return self.kappa * lifted(second)

    def views(self, prompts: Prompts) -> list[Inputs]:
        return [transformed(prompts, self.names(prompts))]

    def names(self, prompts: Prompts) -> list[str]:
        """Choose the transformation of each prompt's pictures."""
        return [drawn(seed) for seed in prompts.seeds]


def drawn(seed: int) -> str:
    """Draw one of the six transformations."""
    names = [*TRANSFORMATIONS]
    return names[generator(seed, "choice").integers(len(names))]


def transformed(prompts: Prompts, names: Sequence[str]) -> dict[str, Tensor]:
    """Encode prompts with transformed pictures.

    Args:
        prompts: A transformation's parameters depend on nothing but their seeds.
        names: The transformation of each prompt's pictures.
    """
    size, changed = input_size(prompts.processor), []
    for row, name, seed in zip(prompts.images, names, prompts.seeds, strict=True):
        random = generator(seed, "transformation")
        changed.append([TRANSFORMATIONS[name](image, random, size) for image in row])
    return encode(prompts.processor, prompts.messages, changed)
