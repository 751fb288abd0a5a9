"""RITUAL adds what the model says of a randomly transformed picture: a second look.

Woo et al. 2024, "RITUAL: Random Image Transformations as a Universal Anti-hallucination Lever in
LVLMs", arXiv 2405.17821. One of six transformations is drawn for each prompt and applied to its
pictures before the processor. As in the authors' code the sum is not normalised: were both looks
the same, it would be plain decoding at temperature `1 / (1 + kappa)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL.Image import Image
from torch import Tensor

from .checks import at_least, fraction
from .method import Inputs, Logits, Steps
from .plausible import apart, lifted
from .prompts import Messages, encode
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
        return second_look(expert, second, self.kappa, normalize=self.normalize)

    def views(
        self,
        processor: Any,
        messages: Sequence[Messages],
        images: Sequence[Sequence[Image]],
        seeds: Sequence[int],
        model: Any,
    ) -> list[Inputs]:
        names = [drawn(seed) for seed in seeds]
        return [transformed(processor, messages, images, names, seeds)]


def second_look(expert: Logits, second: Logits, kappa: float, *, normalize: bool) -> Logits:
    """What a second look adds: `kappa * l(T(v))`, or what makes the sum a mean."""
    if normalize:
        return kappa / (1 + kappa) * apart(second, expert)
    return kappa * lifted(second)


def drawn(seed: int) -> str:
    """Draw one of the six transformations."""
    names = [*TRANSFORMATIONS]
    return names[generator(seed, "choice").integers(len(names))]


def transformed(
    processor: Any,
    messages: Sequence[Messages],
    images: Sequence[Sequence[Image]],
    names: Sequence[str],
    seeds: Sequence[int],
) -> dict[str, Tensor]:
    """Encode prompts with transformed pictures.

    Args:
        processor: The model's.
        messages: The prompts.
        images: Their pictures.
        names: The transformation of each prompt's pictures.
        seeds: One for each prompt: a transformation's parameters depend on nothing else.
    """
    size, changed = input_size(processor), []
    for row, name, seed in zip(images, names, seeds, strict=True):
        random = generator(seed, "transformation")
        changed.append([TRANSFORMATIONS[name](image, random, size) for image in row])
    return encode(processor, messages, changed)
