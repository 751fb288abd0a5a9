"""How the branches of one generate call are forwarded: all rows at once, or one after the other.

Both see what generate is about to feed (`before`) and what came out (`after`); generate itself
never learns that there is more than one branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import StaticCache

from .caches import merged
from .run import BranchRun, cache_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache
    from transformers.utils import ModelOutput

_MODALITIES = ("mm_token_type_ids", "moe_mm_token_type_ids")  # generated tokens are all text
_BY_LAYER = ("hidden_states", "attentions", "decoder_hidden_states", "decoder_attentions")


class Sequential:
    """One forward a branch: for another model, an encoder-decoder, caches that can't be stacked."""

    def __init__(self, prompt_length: int, runs: Sequence[BranchRun]) -> None:
        self.prompt_length, self.runs = prompt_length, runs
        self.tokens: Tensor

    def before(
        self, ids: Tensor, count: int, kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Turn the ids and kwargs of generate's next forward into those that are really fed."""
        read = ids.shape[1] - count - self.prompt_length
        for run in self.runs:
            run.rewind(read)
        self.tokens = ids[:, -count:]
        return ids, kwargs

    def after(self, outputs: ModelOutput) -> list[Tensor]:
        """Leave the expert's logits in the outputs, return each branch's `[rows, n, vocab]`."""
        return [run.advance(self.tokens) for run in self.runs]

    def reorder(self, cache: Cache, index: Tensor) -> None:
        """Follow beam search: row i goes on from row `index[i]`."""
        cache.reorder_cache(index)
        for run in self.runs:
            run.reorder(index)


class Merged:
    """Every branch's rows in one forward of the expert, which reads its weights once for all.

    Args:
        outputs: The expert's prefill; its cache is replaced by the merged one.
        kwargs: The model kwargs of that prefill, as generate keeps them.
        prompt_length: The main prompt's length.
        runs: The prefilled branches, read by the same model.
        room: The most tokens that can come.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        outputs: ModelOutput,
        kwargs: dict[str, Any],
        prompt_length: int,
        runs: Sequence[BranchRun],
        room: int,
    ) -> None:
        self.rows, self.branches = outputs.logits.shape[0], 1 + len(runs)
        read = prompt_length + runs[0].generated
        lengths = [read, *(run.ids.shape[1] for run in runs)]
        self.prompt_length, self.longest = prompt_length, max(lengths) - runs[0].generated
        masks = [kwargs.get("attention_mask"), *(run.kwargs.get("attention_mask") for run in runs)]
        self.mask = self._stacked_masks(masks, lengths, outputs.logits.device)
        self.shifts = self._position_shifts(kwargs, read, runs)
        types = [run.kwargs.get("token_type_ids") for run in runs]
        self.types = [x[:, -1:] for x in types if x is not None]
        name = cache_name(outputs)

        def fresh(longest: int) -> StaticCache:
            config = model.config.get_text_config(decoder=True)
            return StaticCache(config=config, max_cache_len=longest + room)

        outputs[name] = merged([outputs[name], *(run.cache for run in runs)], lengths, fresh)

    def before(
        self, ids: Tensor, count: int, kwargs: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Turn the ids and kwargs of generate's next forward into those of every branch's rows."""
        kwargs = dict(kwargs)
        fed = ids.shape[1] - self.prompt_length
        mask = self.mask
        kwargs["attention_mask"] = None if mask is None else F.pad(mask, (0, fed), value=1)
        if (positions := kwargs.get("position_ids")) is not None:
            here = _every_row(positions[..., -count:], self.rows)
            kwargs["position_ids"] = torch.cat([here, *(here + s for s in self.shifts)], dim=-2)
        for key in _MODALITIES:
            if kwargs.get(key) is not None:
                kwargs[key] = kwargs[key][..., -count:].repeat(self.branches, 1)
        if (types := kwargs.get("token_type_ids")) is not None:
            here = types[:, -count:]
            kwargs["token_type_ids"] = torch.cat(
                [here, *(x.to(here.device).expand_as(here) for x in self.types)]
            )
        return ids[:, -count:].repeat(self.branches, 1), kwargs

    def after(self, outputs: ModelOutput) -> list[Tensor]:
        """Leave the expert's logits in the outputs, return each branch's `[rows, n, vocab]`."""
        expert, *contrasts = outputs.logits.split(self.rows)
        outputs.logits = expert
        for key in _BY_LAYER:
            if outputs.get(key) is not None:
                outputs[key] = tuple(None if x is None else x[: self.rows] for x in outputs[key])
        return contrasts

    def reorder(self, cache: Cache, index: Tensor) -> None:
        """Follow beam search: row i goes on from row `index[i]`, in every branch."""
        cache.reorder_cache(torch.cat([index + i * self.rows for i in range(self.branches)]))

    def _stacked_masks(
        self, masks: Sequence[Tensor | None], lengths: Sequence[int], device: torch.device
    ) -> Tensor | None:
        """The prompts' masks, or None when nothing is padded: attention is faster without one."""
        generated = max(lengths) - self.longest
        rows = []
        for mask, length in zip(masks, lengths, strict=True):
            prompt = length - generated
            full = torch.ones(self.rows, prompt, dtype=torch.long) if mask is None else mask
            rows.append(F.pad(full[:, :prompt].to(device), (self.longest - prompt, 0)))
        stacked = torch.cat(rows)
        return None if stacked.all() else stacked

    def _position_shifts(
        self, kwargs: dict[str, Any], read: int, runs: Sequence[BranchRun]
    ) -> list[Tensor]:
        """How far each row's positions lie from the main branch's: constant while generating."""
        if (main := kwargs.get("position_ids")) is None:
            return []
        last = _every_row(main, self.rows)[..., self.prompt_length - 1, None]
        ends = [
            _every_row(run.kwargs["position_ids"], self.rows)[..., run.prompt_length - 1, None]
            for run in runs
        ]
        # The main prompts may have stayed on the CPU; branches are where their model is.
        return [end.to(last.device) - last for end in ends]


Execution = Merged | Sequential


def _every_row(positions: Tensor, rows: int) -> Tensor:
    shape = positions.shape
    return positions if shape[-2] == rows else positions.expand(*shape[:-2], rows, shape[-1])
