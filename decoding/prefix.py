"""Rows that begin alike, as the questions about one picture do, read what they share once.

What all rows of a batch have in common, the picture included, is read as one row; its cache is
repeated, and the rows' own ends are read on top, padded on the right where no causal model can see
it. A model whose prefix looks ahead (PaliGemma), or whose picture is read with the question in mind
(a Q-Former), can't share: what differs between the rows' inputs tells the second, a comparison of
logits the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .exits import check_readable, exit_logits
from .inputs import as_branches, checked
from .method import Inputs, Method
from .refusals import unwrapped
from .run import BranchRun
from .sources import Sources, resolved
from .speaker import speaker
from .vocabulary import aligned, place_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_HALF = 0.05


class Prefixes:
    """Reads first tokens, and remembers which branches of its model can share a beginning.

    Attributes:
        shared: Branches that read their rows' beginning once, over all calls.
        whole: Those whose rows were read one by one.

    Args:
        model: A generating transformers model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = unwrapped(model)
        self.shared = self.whole = 0
        self._exact: dict[str, bool] = {}

    @torch.no_grad()
    def first_logits(
        self,
        inputs: Inputs,
        method: Method,
        branch: Inputs | Sequence[Inputs] | None = None,
        alone: tuple[Inputs, Sequence[Inputs]] | None = None,
    ) -> list[Float[Tensor, "rows vocab"]]:
        """Give each branch's raw logits of the first token after its prompts.

        Args:
            inputs: The main prompts, left padded.
            method: Says where contrasts come from.
            branch: The contrast branches' inputs, from `method.branches(...)`.
            alone: The inputs and branches of the first row, encoded alone: whatever of the batch is
                these over and over is shared. None shares nothing.

        Returns:
            For `method.at(0)`: float32, of one vocabulary, on the expert's device.

        Raises:
            ValueError: Inputs or branches that can't be read.
        """
        expert = method.expert(self.model)
        sources = resolved(expert, inputs, method, branch)
        main, runs = sources.main, sources.runs
        if alone is None or sources.exits:
            return self._unshared(expert, sources)
        firsts = [alone[0], *as_branches(alone[1])]
        given = [(expert, main, "main"), *((r.whole, r.inputs, r.name) for r in runs)]
        logits = [
            self._read(reader, batch, first, name)
            for (reader, batch, name), first in zip(given, firsts, strict=True)
        ]
        return aligned(logits[0], logits[1:], sources.places)

    def _unshared(self, reader: PreTrainedModel, sources: Sources) -> list[Tensor]:
        main, exits = sources.main, sources.exits
        expert = BranchRun(reader, main, "the main prompt", hidden=bool(exits))
        rows = len(main["input_ids"])
        self.whole += 1 + len(sources.runs)
        logits = [run.prefill(rows, 1)[:, -1] for run in [expert, *sources.runs]]
        if exits:
            check_readable(expert.model, expert.outputs)
            logits += [x[:, -1] for x in exit_logits(expert.model, expert.outputs, exits, 1)]
        return aligned(logits[0], logits[1:], sources.places)

    def _read(
        self, reader: PreTrainedModel, batch: Inputs, first: Inputs, name: str
    ) -> Float[Tensor, "rows vocab"]:
        first = checked(first, name, reader, 1)
        length = shared_length(batch, first, place_ids(reader))
        rows = len(batch["input_ids"])
        if rows < 2 or length == 0 or not self._exact.get(name, True):
            self.whole += 1
            return BranchRun(reader, batch, name).prefill(rows, 1)[:, -1]
        logits = _read_on(reader, batch, first, length, name)
        if name not in self._exact:
            whole = BranchRun(reader, batch, name).prefill(rows, 1)[:, -1]
            self._exact[name] = _same(logits, whole)
            logits = whole
        self.shared += self._exact[name]
        self.whole += not self._exact[name]
        return logits


def shared_length(batch: Inputs, first: Inputs, places: Sequence[int]) -> int:
    """How many tokens all rows begin with, pictures and their places among them; 0 for unlike rows.

    Args:
        batch: Left padded rows.
        first: The first of them, encoded alone.
        places: Ids that stand for pictures: what the rows don't share must have none.
    """
    rows = len(batch["input_ids"])
    if not _is_repeated(batch, first, rows):
        return 0
    texts = _unpadded(batch)
    shortest = min(map(len, texts))
    same = torch.stack([text[:shortest] for text in texts])
    differs = (same != same[0]).any(dim=0).nonzero().flatten().tolist()
    length = min(differs[0] if differs else shortest, shortest - 1)
    ends = torch.cat([text[length:] for text in texts])
    stands = torch.isin(ends, torch.tensor(places, dtype=ends.dtype, device=ends.device)).any()
    return 0 if stands else length


def _is_repeated(batch: Inputs, first: Inputs, rows: int) -> bool:
    """Whether everything but the text is that of the first row, over and over."""
    other = [key for key in batch if key not in _PER_TOKEN]
    return batch.keys() == first.keys() and all(_repeats(batch[k], first[k], rows) for k in other)


def _repeats(whole: Any, one: Any, rows: int) -> bool:
    if not isinstance(whole, Tensor):
        return bool(whole == one)
    if whole.shape[0] != rows * one.shape[0] or whole.shape[1:] != one.shape[1:]:
        return False
    return bool((whole.view(rows, *one.shape) == one).all())


def _unpadded(batch: Inputs) -> list[Tensor]:
    mask = batch["attention_mask"].bool()
    return [ids[here] for ids, here in zip(batch["input_ids"], mask, strict=True)]


def _read_on(
    reader: PreTrainedModel, batch: Inputs, first: Inputs, length: int, name: str
) -> Float[Tensor, "rows vocab"]:
    """Read the first `length` tokens once, and each row's own after them."""
    ends = [text[length:] for text in _unpadded(batch)]
    pad = speaker(reader).generation_config.pad_token_id or 0
    tails = nn.utils.rnn.pad_sequence(ends, batch_first=True, padding_value=pad)
    cut: Mapping[str, Any] = {
        key: value[:, :length] if key in _PER_TOKEN else value for key, value in first.items()
    }
    run = BranchRun(reader, cut, name)
    run.prefill(1, tails.shape[1])
    run.repeat(len(ends))
    lasts = torch.tensor([len(end) - 1 for end in ends])
    kept, place = torch.unique(lasts, return_inverse=True)
    logits = run.advance(tails, kept)
    return logits[torch.arange(len(ends)), place.to(logits.device)]


def _same(logits: Tensor, whole: Tensor) -> bool:
    """Whether two readings differ by no more than rounding."""
    tolerance = _TOLERANCE.get(whole.dtype, _HALF)
    return bool((logits - whole).abs().max() <= tolerance * whole.abs().max().clamp(min=1.0))
