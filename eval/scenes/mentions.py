"""Which kinds a caption mentions, and what that is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .kinds import KINDS

_WORDS = {word: kind.name for kind in KINDS.values() for word in (kind.name, kind.plural)}

Completion = str | Sequence[Mapping[str, Any]]


def mentions(caption: str) -> list[str]:
    """List the kinds that a caption mentions, in its order, repetitions included."""
    words = re.findall(r"\w+", caption.lower())
    return [_WORDS[word] for word in words if word in _WORDS]


def recall_reward(
    completions: Sequence[Completion], objects: Sequence[Sequence[str]], **columns: Any
) -> list[float]:
    """Reward captions for the kinds that are there, less the kinds that aren't.

    `(found - invented) / there`, each kind counted once: 1 for a complete caption that invents
    nothing. It has the signature of TRL's reward functions; `objects` is a column of the data.

    Args:
        completions: Texts, or messages whose last one is the caption.
        objects: The kinds in each picture, at least one.
        **columns: Not read.

    Raises:
        ValueError: A picture without kinds, or not as many pictures as captions.
    """
    if len(completions) != len(objects) or not all(objects):
        raise ValueError(
            f"each of {len(completions)} captions has a picture with at least one kind, got the "
            f"objects {[list(some) for some in objects]}. Keep the column `objects` of the data."
        )
    return [
        _worth(set(mentions(_text(completion))), set(there))
        for completion, there in zip(completions, objects, strict=True)
    ]


def _worth(said: set[str], there: set[str]) -> float:
    return (len(said & there) - len(said - there)) / len(there)


def _text(completion: Completion) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
