"""ICD subtracts what the model says under an instruction that confuses it, of the same picture.

Wang et al. 2024, "Mitigating Hallucinations in Large Vision-Language Models with Instruction
Contrastive Decoding", arXiv 2403.18715. The instruction takes the place of the system turn; in raw
text it stands in front, as the authors have it, after pictures that the text begins with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from .checks import at_least, fraction
from .method import Inputs, Logits, Steps
from .pictured import Prompts
from .places import split_places
from .plausible import apart
from .prompts import Messages, encode
from .shift import Shift


@dataclass(frozen=True)
class ICD(Shift):
    """`(1 + alpha) * l(v) - alpha * l(v, instruction)` on the plausible tokens.

    Attributes:
        alpha: Strength of the contrast.
        cutoff: Least share of the best token's probability that a token must have.
        instruction: What disturbs the model; the authors tried several, this one is theirs.
    """

    paper: ClassVar[str] = "Wang et al. 2024, arXiv 2403.18715"

    alpha: float = 1.0
    cutoff: float = 0.1
    instruction: str = (
        "You are a confused objects detector to provide a fuzzy overview or impression of the "
        "image."
    )

    def __post_init__(self) -> None:
        at_least("alpha", self.alpha, 0)
        fraction("cutoff", self.cutoff)
        if not self.instruction.strip() or re.search(r"[;+@,\n]", self.instruction):
            raise ValueError(
                "instruction must be a line of text without ; + @ and commas, which part the names "
                f"of methods, got {self.instruction!r}. Rephrase it."
            )

    def shift(self, steps: Steps, expert: Logits, *contrasts: Logits) -> Logits:
        (contrast,) = contrasts
        return self.alpha * apart(expert, contrast)

    def views(self, prompts: Prompts) -> list[Inputs]:
        disturbed = [self._disturbed(prompts.processor, prompt) for prompt in prompts.messages]
        return [encode(prompts.processor, disturbed, prompts.images)]

    def _disturbed(self, processor: Any, prompt: Messages) -> Messages:
        if isinstance(prompt, str):
            front, rest = split_places(processor, prompt)
            return f"{front}{self.instruction} {rest}"
        system = {"role": "system", "content": [{"type": "text", "text": self.instruction}]}
        return [system, *(turn for turn in prompt if turn["role"] != "system")]
