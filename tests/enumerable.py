"""A policy small enough to list every sequence that it can say, so that expectations are sums.

It has a logit for each next token after each beginning: any distribution over sequences is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from contralign.align.batch import Batch

EOS = 0


@dataclass(frozen=True)
class Enumerable:
    """All sequences over a vocabulary that end with EOS, or at a greatest length without it.

    Attributes:
        vocabulary: Tokens, EOS (0) among them.
        longest: Tokens of the longest sequence.
    """

    vocabulary: int = 3
    longest: int = 3

    @property
    def sequences(self) -> list[tuple[int, ...]]:
        words = range(1, self.vocabulary)
        ended = [(*y, EOS) for n in range(self.longest) for y in product(words, repeat=n)]
        return [*ended, *product(words, repeat=self.longest)]

    @property
    def beginnings(self) -> list[tuple[int, ...]]:
        words = range(1, self.vocabulary)
        return [y for n in range(self.longest) for y in product(words, repeat=n)]

    def logits(self, seed: int) -> Tensor:
        """Random parameters, `[beginnings, vocabulary]`."""
        generator = torch.Generator().manual_seed(seed)
        shape = (len(self.beginnings), self.vocabulary)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def logps(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probs of every sequence's tokens, `[sequences, longest]`, zero on the padding."""
        table = (logits / temperature).log_softmax(-1)
        at = {beginning: row for row, beginning in enumerate(self.beginnings)}
        zero = table.new_zeros(())
        rows = []
        for y in self.sequences:
            said = [table[at[y[:t]], token] for t, token in enumerate(y)]
            rows.append(torch.stack([*said, *[zero] * (self.longest - len(y))]))
        return torch.stack(rows)

    def batch(self, chosen: list[tuple[int, ...]], **columns: Any) -> Batch:
        """A prompt for each tuple, answered by the sequences of these numbers."""
        said = [list(y) for y in self.sequences]
        groups = [[said[number] for number in group] for group in chosen]
        tensors = {name: torch.as_tensor(values) for name, values in columns.items()}
        return replace(Batch([[1]] * len(groups), groups), columns=tensors)

    def of(self, logps: Tensor, chosen: list[tuple[int, ...]]) -> Tensor:
        """Log-probs of such a batch, as wide as its mask."""
        width = self.batch(chosen).mask.shape[-1]
        return logps[torch.tensor(chosen)][..., :width]


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return found
