"""Closed answers without generating: yes or no, A to D, read off the token that would come first.

Held to labels that begin with different tokens, greedy search and sampling decide for one with the
first token, so reading the scores of that token is exact. Not held to them it's exact where the
first token says a label; whatever says none is generated. How often that was is reported, since
it's then that being held to labels changes an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from contralign.decoding import Calibration, Decoding, closed, surface_forms
from contralign.decoding.method import Inputs
from contralign.decoding.prefix import Prefixes

from .answers import Answer
from .ask import Ask
from .sampling import gumbel

Encoded = tuple[Inputs, Sequence[Inputs]]
Scores = Float[Tensor, "rows vocab"]


@dataclass(frozen=True)
class Choice:
    """What one row's first token says.

    Attributes:
        best: Index of the best label.
        said: Whether the token that would come first without being held to labels says one.
    """

    best: int
    said: bool


def check_closed(asks: Sequence[Ask], decoding: Decoding, tokenizer: Any) -> None:
    """Refuse what can't be read off a first token.

    Raises:
        ValueError: Beam search, choices that a token can't tell apart, or a method that weighs
            labels, of asks that might be generated.
    """
    if not decoding.method.generates and any(ask.reading != "labels" for ask in asks):
        raise ValueError(
            f"{decoding.label} weighs labels and generates no text. Use reading='labels', of a "
            "benchmark with choices."
        )
    asked = {ask.choices for ask in asks if ask.reading != "text"}
    if asked and decoding.search not in ("greedy", "sample"):
        raise ValueError(
            f"{decoding.label}: a closed answer is read off its first token, which beam search "
            "does not decide by itself. Use @greedy or @sample, or reading='text'."
        )
    for choices in asked:
        surface_forms(tokenizer, choices)


def closed_answers(
    prefixes: Prefixes,
    tokenizer: Any,
    asks: Sequence[Ask],
    encoded: Encoded,
    alone: Encoded,
    decoding: Decoding,
    seeds: Sequence[int],
) -> list[Answer | None]:
    """Answer the closed asks of one batch; None for those that have to be generated.

    Args:
        prefixes: Reads them.
        tokenizer: The model's.
        asks: Of the same choices and reading.
        encoded: Their inputs and branches.
        alone: Those of the first ask alone.
        decoding: The method, and greedy search or sampling.
        seeds: One per ask, for sampling.
    """
    forms = surface_forms(tokenizer, asks[0].choices)
    choices = _choices(prefixes, encoded, alone, decoding, seeds, forms)
    return [
        Answer(ask.choices[choice.best], 1, off_label=not choice.said)
        if choice.said or ask.reading == "labels"
        else None
        for ask, choice in zip(asks, choices, strict=True)
    ]


def _choices(
    prefixes: Prefixes,
    encoded: Encoded,
    alone: Encoded,
    decoding: Decoding,
    seeds: Sequence[int],
    forms: Sequence[Sequence[int]],
) -> list[Choice]:
    method, (inputs, branch) = decoding.method, encoded
    if isinstance(method, Calibration):
        logps, complete = closed(prefixes.model, inputs, forms, method, branch)
        best = _drawn(logps, decoding, seeds).argmax(-1).tolist()
        return [Choice(*one) for one in zip(best, complete.tolist(), strict=True)]
    logits = prefixes.first_logits(inputs, method, branch, alone)
    rule = method.at(0)
    again = _drawn(_again(rule, logits, forms), decoding, seeds)
    return choose(_drawn(rule(*logits), decoding, seeds), forms, again)


def choose(
    scores: Scores, forms: Sequence[Sequence[int]], again: Scores | None = None
) -> list[Choice]:
    """Take the best token of each row, and the label of its best label token.

    Args:
        scores: Of every token.
        forms: The ids that say each label.
        again: Scores to tell labels apart by where `scores` forbids all of them.
    """
    ids = torch.tensor([token for label in forms for token in label], device=scores.device)
    of = [index for index, label in enumerate(forms) for _ in label]
    held = scores[:, ids]
    if again is not None:
        dead = held.isneginf().all(-1, keepdim=True)
        held = torch.where(dead, again[:, ids], held)
    free = torch.isin(scores.argmax(-1), ids).tolist()
    return [
        Choice(of[token], said) for token, said in zip(held.argmax(-1).tolist(), free, strict=True)
    ]


def _again(rule: Any, logits: Sequence[Tensor], forms: Sequence[Sequence[int]]) -> Scores:
    """The rule's scores where the expert may say labels only: a cutoff then keeps one of them."""
    expert, *contrasts = logits
    allowed = torch.zeros(expert.shape[-1], dtype=torch.bool, device=expert.device)
    allowed[[token for label in forms for token in label]] = True
    return rule(expert.masked_fill(~allowed, -torch.inf), *contrasts)


def _drawn(scores: Tensor, decoding: Decoding, seeds: Sequence[int]) -> Tensor:
    """Add each row's own noise if the search is sampling: its argmax is a sample."""
    if decoding.search != "sample":
        return scores
    noise = torch.stack([gumbel(seed, 0, scores.shape[-1]) for seed in seeds])
    return scores + noise.to(scores)
