"""Bans: that of pictures' places, and what is done where others forbid every plausible token.

A rule with a cutoff leaves few tokens; a ban that comes after it (min_new_tokens, bad words,
repeated n-grams) can forbid them all, and then greedy search emits token 0, sampling raises and
beam search returns nothing. The rule is applied again to an expert that may only say what is
allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from .vocabulary import aligned

if TYPE_CHECKING:
    from .contrast import Contrast


class NoPlaces(LogitsProcessor):
    """Keeps the places of pictures, which prompts are full of, out of drafts looked up in them."""

    def __init__(self, places: Sequence[int]) -> None:
        self.places = places

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return aligned(scores, [], self.places)[0]


class Replausible(LogitsProcessor):
    """Runs after the last ban and before temperature and top-p.

    Where a row has no token left that the rule keeps, the processors before it run a second time.

    Args:
        contrast: Holds the rule and the raw logits of the step.
        beams: Beam search hands processors log-probs.
    """

    def __init__(self, contrast: Contrast, *, beams: bool) -> None:
        self.contrast, self.beams = contrast, beams
        self.before = LogitsProcessorList()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self.before:
            return scores
        # remove_invalid_values writes the smallest number for -inf.
        least = torch.finfo(scores.dtype).min
        # prefix_allowed_tokens_fn gives tokens that the rule ruled out a score of 0 again.
        ruled_out = self.contrast.ruled_out(input_ids.shape[1], scores)
        dead = (ruled_out | (scores <= least)).all(-1, keepdim=True)
        if not dead.any():
            return scores
        allowed = self.before(input_ids, torch.zeros_like(scores)) > least
        if not allowed.any(-1).all():
            rows = (~allowed.any(-1)).nonzero().flatten().tolist()
            raise ValueError(
                f"the bans of this call leave no token at all to rows {rows}. Loosen "
                "bad_words_ids, suppress_tokens, no_repeat_ngram_size or prefix_allowed_tokens_fn."
            )
        if (again := self.contrast.again(input_ids.shape[1], allowed)) is None:
            return scores
        again = torch.log_softmax(again, dim=-1) if self.beams else again
        return torch.where(dead, self.before(input_ids, again), scores)
