"""The contrast as a plain logits processor, for an unmodified `model.generate`.

One extra forward a step and branch, with a cache of its own. generate hands processors what its
penalties and bans have left, so with those set the contrast comes after them, where the view's
comes before: the view is the reference, and both agree where no other processor comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor

from .exits import check_readable, exit_logits
from .eyes import sees_itself
from .inputs import check_room
from .method import Inputs, Method
from .refusals import refuse_method, unwrapped
from .run import BranchRun
from .sources import Sources, resolved
from .vocabulary import aligned


def processor(
    model: nn.Module,
    inputs: Inputs,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
) -> ContrastProcessor:
    """Make `logits_processor=[...]` for `model.generate(**inputs, ...)` on the same inputs.

    Follows greedy search, sampling, beams, drafted tokens that are rejected, and further calls.

    Args:
        model: The model whose `generate` will be called.
        inputs: The main prompts, left padded, as generate gets them.
        method: What to decode with.
        branch: The contrast branches' inputs, from `method.branches(...)`.

    Raises:
        ValueError: Inputs or branches that can't be decoded.
    """
    refuse_method(method)
    whole = method.expert(unwrapped(model))
    sources = resolved(whole, inputs, method, branch)
    check_room(whole, sources.main["input_ids"].shape[1], 1, "the main prompt")
    own = not sees_itself(whole)
    if sources.exits or own:
        name, hidden = "the main prompt", bool(sources.exits)
        sources.runs.append(BranchRun(whole, sources.main, name, hidden=hidden))
    return ContrastProcessor(method, sources, encoded=whole.config.is_encoder_decoder, own=own)


class ContrastProcessor(LogitsProcessor):
    """Applies a method's rule to the scores of generate and the logits of its own branches.

    Attributes:
        seen: The ids of the last call, `[rows, length]`: what the branches have read.
    """

    def __init__(
        self, method: Method, sources: Sources, *, encoded: bool, own: bool = False
    ) -> None:
        self.method, self.runs, self.exits = method, sources.runs, sources.exits
        self.encoded, self.own, self.places = encoded, own, sources.places
        self.prompts: Tensor = sources.main["input_ids"]
        self.seen: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        start = self._start(input_ids)
        contrasts = self._read(input_ids, start)
        self.seen = input_ids
        if self.own:
            # generate's model is not the expert: what it bans is all that its scores are good for.
            *contrasts, expert = contrasts
            scores = expert.to(scores).masked_fill(scores.isneginf(), -torch.inf)
        rule = self.method.at(input_ids.shape[1] - start)
        mixed = rule(*aligned(scores, contrasts, self.places))
        # Beam search adds log-probs of different rows up, so they have to be normalized.
        return torch.log_softmax(mixed, dim=-1)

    def _start(self, input_ids: Tensor) -> int:
        """The length of the decoder's prompt, which every row of `input_ids` must begin with."""
        rows, length = self.prompts.shape
        group, rest = divmod(len(input_ids), rows)
        prompts = self.prompts.to(input_ids.device).repeat_interleave(group, dim=0)
        # An encoder-decoder's prompts were the encoder's: only their number can be checked.
        if rest or not (self.encoded or torch.equal(input_ids[:, :length], prompts)):
            raise ValueError(
                f"this processor was made for prompts of shape {tuple(self.prompts.shape)}, but "
                f"generate passed ids of shape {tuple(input_ids.shape)} that don't begin with "
                "them. Make one processor for each batch, from the inputs that generate gets."
            )
        if self.encoded:
            return 1
        return length

    def _read(self, input_ids: Tensor, start: int) -> list[Tensor]:
        new = input_ids[:, start:]
        parents, kept = self._followed(input_ids, start)
        logits = []
        for run in self.runs:
            if parents is None or not self._can_follow(run, kept):
                start_token = {"decoder_start_token_id": int(input_ids[0, 0])}
                begun: dict[str, Any] = start_token if self.encoded else {}
                room = new.shape[1] + 1
                logits.append(run.prefill(len(input_ids), room, new, **begun)[:, -1])
                if run.cache.is_croppable:
                    run.cache.activate_past_recording()
            else:
                run.rewind(kept)
                if not torch.equal(parents, torch.arange(len(parents))):
                    run.reorder(parents)
                logits.append(run.advance(new[:, kept:])[:, -1])
        return self._split(logits)

    def _split(self, logits: list[Tensor]) -> list[Tensor]:
        if not self.exits:
            return logits
        own = self.runs[-1]
        check_readable(own.model, own.outputs)
        early = exit_logits(own.model, own.outputs, self.exits, 1)
        return logits[:-1] + [x[:, -1] for x in early]

    @staticmethod
    def _can_follow(run: BranchRun, kept: int) -> bool:
        return kept == run.generated or run.cache.is_croppable

    def _followed(self, input_ids: Tensor, start: int) -> tuple[Tensor | None, int]:
        """Find for every row the last call's row that it goes on from, and how much they share.

        A branch's cache depends on the prompt and the tokens alone, so any row of the same prompt
        with the same tokens will do.
        """
        seen = self.seen
        if seen is None or seen.shape[0] != len(input_ids) or input_ids.shape[1] <= start:
            return None, 0
        new, old = input_ids[:, start:], seen[:, start:]
        group = len(input_ids) // len(self.prompts)
        kept = min(new.shape[1] - 1, old.shape[1])
        if group == 1:
            differ = (new[:, :kept] != old[:, :kept]).any(0).nonzero()
            kept = int(differ[0]) if len(differ) else kept
            return torch.arange(len(new)), kept
        shape = (len(new) // group, group, kept)
        first = new[:, :kept].reshape(shape)[:, :, None]
        second = old[:, :kept].reshape(shape)[:, None]
        same = (first == second).all(-1)
        if not same.any(-1).all():
            return None, 0
        # Keep a row where it is if it can go on from itself.
        stay = torch.eye(group, dtype=torch.bool, device=same.device)
        parent = (same.int() + (same & stay).int()).argmax(-1)
        offsets = torch.arange(len(parent), device=same.device)[:, None] * group
        return (parent + offsets).flatten().cpu(), kept
