"""A batch as one row without padding, in which each prompt stands once before all its completions.

Prefix sharing for preference pairs: Wang & Hegde 2024, "Accelerating Direct Preference
Optimization with Prefix Sharing", arXiv 2410.20305. A completion's last token is only predicted,
never read, so it isn't in the row (ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from .batch import Batch
from .positions import TOKEN_TYPES, positions_after, prompt_positions


@dataclass(frozen=True, eq=False)
class Layout:
    """Which parts of a row are prompts and which are completions of them; equal only to itself.

    Attributes:
        groups: For each prompt its slice and the slices of its completions, in the row's order.
    """

    groups: tuple[tuple[slice, tuple[slice, ...]], ...]

    @property
    def length(self) -> int:
        """Tokens in the row."""
        prompt, completions = self.groups[-1]
        return int(completions[-1].stop if completions else prompt.stop)

    def owners(self) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"], Int[Tensor, " row"]]:
        """For each token: its prompt, its completion (0 is the prompt itself), and its distance."""
        group, part, distance = (torch.zeros(self.length, dtype=torch.long) for _ in range(3))
        for number, (prompt, completions) in enumerate(self.groups):
            group[prompt.start : completions[-1].stop] = number
            size = prompt.stop - prompt.start
            distance[prompt] = torch.arange(size)
            for index, piece in enumerate(completions, 1):
                part[piece] = index
                distance[piece] = torch.arange(size, size + piece.stop - piece.start)
        return group, part, distance

    def visible(self, window: int | None = None) -> Bool[Tensor, "row row"]:
        """What each token (rows) may attend to (columns), as one dense mask."""
        group, part, distance = self.owners()
        mine = (part[None] == 0) | (part[None] == part[:, None])
        gap = distance[:, None] - distance[None]
        near = (gap >= 0) & (gap < (window or self.length))
        return (group[:, None] == group[None]) & mine & near


@dataclass(frozen=True)
class Row:
    """The packed row and where its predictions are read off.

    Attributes:
        inputs: What the backbone takes, batch axis of one.
        layout: Of the row.
        sources: The position that predicts each target, completion by completion.
        targets: The completions' tokens.
    """

    inputs: Mapping[str, Tensor]
    layout: Layout
    sources: Int[Tensor, " targets"]
    targets: Int[Tensor, " targets"]


def pack(batch: Batch, backbone: Any) -> Row:
    """Lay a batch out; nothing in it is padding."""
    ids: list[int] = []
    positions, sources, groups, read = [], [], [], []
    placed = prompt_positions(backbone, batch)
    for prompt, completions, (where, first) in zip(
        batch.prompts, batch.completions, placed, strict=True
    ):
        start, end = len(ids), len(ids) + len(prompt)
        lengths = [len(completion) - 1 for completion in completions]
        stops = list(accumulate(lengths, initial=end))
        pieces = tuple(map(slice, stops[:-1], stops[1:]))
        groups.append((slice(start, end), pieces))
        ids += [*prompt, *(token for completion in completions for token in completion[:-1])]
        positions += [where, *(positions_after(first, count, where) for count in lengths)]
        sources += [at for piece in pieces for at in (end - 1, *range(piece.start, piece.stop))]
        read.append(stops[-1] - end)
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.cat(positions, dim=-1).unsqueeze(-2),
        **joined_images(batch),
        **{name: torch.cat(types)[None] for name, types in token_types(batch, read).items()},
    }
    targets = [token for completion in batch.flat for token in completion]
    return Row(inputs, Layout(tuple(groups)), torch.tensor(sources), torch.tensor(targets))


def joined_images(batch: Batch, repeats: int = 1) -> dict[str, Tensor]:
    """Join what the processor made of the prompts' images, each prompt's `repeats` times over."""
    rows = [image for image in batch.images for _ in range(repeats)]
    names = dict.fromkeys(name for row in rows for name in row if name not in TOKEN_TYPES)
    return {name: _joined([row[name] for row in rows if name in row]) for name in names}


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate; where one image has fewer tiles than another, zeros stand for the missing."""
    sizes = torch.tensor([part.shape[1:] for part in parts]).amax(0).tolist()
    padded = []
    for part in parts:
        full = part.new_zeros(len(part), *map(int, sizes))
        full[tuple(map(slice, part.shape))] = part
        padded.append(full)
    return torch.cat(padded)


def token_types(
    batch: Batch, after: Sequence[int], before: Sequence[int] | None = None
) -> dict[str, list[Tensor]]:
    """Extend the prompts' token types by zeros: what comes after is text, what before is padding.

    Args:
        batch: Prompts with what the processor made of them.
        after: Tokens after each prompt.
        before: Tokens before each prompt; None is none.

    Returns:
        Name -> each prompt's types; empty for text.
    """
    sides = list(zip(before or [0] * len(batch), after, strict=True))
    return {
        name: [F.pad(image[name], side) for image, side in zip(batch.images, sides, strict=True)]
        for name in TOKEN_TYPES
        if batch.images and all(name in image for image in batch.images)
    }
