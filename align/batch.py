"""Prompts with their completions, as token ids: what every preference method is computed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Prompts, each with the same number k of completions; a pair is (chosen, rejected).

    Of a group that has scores, the best comes first; k is 0 where completions are to be sampled.

    Attributes:
        prompts: Each prompt's token ids, at least one.
        completions: For each prompt its k completions' token ids, EOS included, at least one each.
        images: For each prompt what the processor made of its images (`pixel_values`, grids, ...),
            without a batch axis of its own; empty for text.
        columns: Other columns of the data: weights, margins, labels and baselines `[prompts]`,
            scores `[prompts, k]`.
        sides: What the first completions of each prompt are called.
        sampled: How many of each prompt's completions, the last ones, the policy drew itself.
    """

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[Sequence[int]]]
    images: Sequence[Mapping[str, Tensor]] = ()
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    sides: Sequence[str] = ("chosen", "rejected")
    sampled: int = 0

    def __post_init__(self) -> None:
        counts = {len(group) for group in self.completions}
        if len(self.prompts) != len(self.completions) or len(counts) != 1:
            raise ValueError(
                "a batch has one prompt or more, each with the same number of completions, got "
                f"{len(self.prompts)} prompts with {[len(group) for group in self.completions]}."
            )
        if self.images and len(self.images) != len(self.prompts):
            raise ValueError(
                f"a batch has images for each prompt or for none, got {len(self.images)} for "
                f"{len(self.prompts)} prompts."
            )
        if not all(map(len, self.prompts)) or not all(map(len, self.flat)):
            raise ValueError(
                "each prompt and each completion has at least one token, got an empty one. Run "
                "`contralign data check` on the data."
            )

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def k(self) -> int:
        """Completions a prompt."""
        return len(self.completions[0])

    @property
    def flat(self) -> list[Sequence[int]]:
        """All completions, a prompt's k after one another."""
        return [completion for group in self.completions for completion in group]

    @property
    def mask(self) -> Bool[Tensor, "prompts k tokens"]:
        """True on each completion's tokens, False on the padding after them."""
        lengths = torch.tensor([len(completion) for completion in self.flat])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        return mask.view(len(self), self.k, -1)

    @property
    def drawn(self) -> Bool[Tensor, "prompts k tokens"]:
        """True on the tokens that the policy drew itself."""
        return self.mask & (torch.arange(self.k) >= self.k - self.sampled)[:, None]

    def of(self, first: int, end: int) -> Batch:
        """Keep some completions of each prompt, by their places."""
        return replace(
            self,
            completions=[group[first:end] for group in self.completions],
            sampled=max(0, min(end, self.k) - max(first, self.k - self.sampled)),
        )

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """Move the tensors; token ids stay lists."""
        move = {"device": device, "non_blocking": non_blocking}
        return replace(
            self,
            images=[{key: x.to(**move) for key, x in image.items()} for image in self.images],
            columns={key: x.to(**move) for key, x in self.columns.items()},
        )
