"""RITUAL+ lets the model itself pick the transformation of its second look.

Woo et al. 2024, arXiv 2405.17821, described in the authors' README alone: the model sees the
question and the numbered list of transformations, and is asked for "the most positive
transformation that helps answer questions more accurately". How the rest is worded, how the reply
is read, and RITUAL's own draw where it names none, are ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from transformers import GenerationConfig

from .checks import whole
from .pictured import Prompts
from .places import split_places
from .plain import Plain
from .prompts import Messages, encode
from .ritual import RITUAL
from .speaker import speaker
from .transformations import TRANSFORMATIONS
from .view import wrap

logger = logging.getLogger(__name__)

_LISTED = "\n".join(f"{number}. {name}" for number, name in enumerate(TRANSFORMATIONS, start=1))
_ASKED = (
    "Question: {question}\n\nBefore the question is answered, the image will be looked at once "
    "more under one of these transformations:\n{listed}\n\nWhich one is the most positive "
    "transformation that helps answer questions more accurately? Answer with its number."
)


@dataclass(frozen=True)
class RITUALPlus(RITUAL):
    """`l(v) + kappa * l(T(v))` on the plausible tokens, T the transformation the model asks for.

    Attributes:
        kappa: Weight of the second look.
        cutoff: Least share of the best token's probability that a token must have.
        normalize: Divide by `1 + kappa`: two equal looks leave the distribution as it is.
        max_new_tokens: How long the model may talk about its choice.
    """

    max_new_tokens: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("max_new_tokens", self.max_new_tokens, 1)

    def names(self, prompts: Prompts) -> list[str]:
        """Let the model choose; a seed does where it names none."""
        if prompts.model is None:
            raise ValueError(
                "RITUAL+ asks the model which transformation helps, got model=None. Pass model=... "
                "to branches, or use RITUAL."
            )
        replies = answered(
            prompts.processor,
            prompts.messages,
            prompts.images,
            prompts.model,
            self.max_new_tokens,
        )
        picked = [choice(reply) for reply in replies]
        logger.info("RITUAL+: %d of %d prompts named none", picked.count(None), len(picked))
        return [name or seeded for name, seeded in zip(picked, super().names(prompts), strict=True)]


def choice(reply: str) -> str | None:
    """Read which transformation a reply names: its first number, else the name it mentions first.

    Returns:
        The name, or None where it names none.
    """
    names = [*TRANSFORMATIONS]
    if found := re.search(r"(?<![\d.])[1-6](?![\d])", reply):
        return names[int(found.group()) - 1]
    places = {name: reply.lower().find(name) for name in names}
    mentioned = [name for name in names if places[name] >= 0]
    return min(mentioned, key=places.__getitem__, default=None)


def answered(
    processor: Any,
    messages: Sequence[Messages],
    images: Sequence[Sequence[Image]],
    model: Any,
    max_new_tokens: int,
) -> list[str]:
    """Ask the model, greedily, which transformation would help with each prompt."""
    asked = [_asking(processor, prompt) for prompt in messages]
    inputs, tokenizer = encode(processor, asked, images), processor.tokenizer
    view: Any = wrap(model, Plain())
    own = speaker(view).generation_config
    speaker(view).generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    moved = {
        key: x.to(view.device, view.dtype if x.is_floating_point() else None)
        for key, x in inputs.items()
    }
    ids = view.generate(**moved, do_sample=False, max_new_tokens=max_new_tokens)
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _asking(processor: Any, prompt: Messages) -> Messages:
    """The prompt with its last question, in whose place stands the question about it."""
    if isinstance(prompt, str):
        front, question = split_places(processor, prompt)
        return front + _ASKED.format(question=question, listed=_LISTED)
    *before, last = prompt
    parts = last["content"]
    if isinstance(parts, str):
        return [*before, {**last, "content": _ASKED.format(question=parts, listed=_LISTED)}]
    question = " ".join(part["text"] for part in parts if part["type"] == "text")
    text = {"type": "text", "text": _ASKED.format(question=question, listed=_LISTED)}
    return [*before, {**last, "content": [*(p for p in parts if p["type"] != "text"), text]}]
