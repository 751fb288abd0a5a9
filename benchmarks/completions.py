"""More than two completions of a prompt: one packed row against a sequence for each.

Packed, a prompt of P tokens with k completions of R stands in P + kR positions instead of k(P + R):
at best k(P + R) / (P + kR) times faster.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gradients import Contestant, naive_logps
from torch import Tensor

from contralign.align.batch import Batch
from contralign.align.engine import Engine

PACKED, APART = "one packed row", "a sequence each"


@dataclass(frozen=True)
class Group:
    """One prompt with its completions.

    Attributes:
        k: Completions.
        prompt: Tokens of the prompt.
        answer: Tokens of each completion.
    """

    k: int
    prompt: int
    answer: int

    @property
    def prediction(self) -> float:
        """How much faster the packed row is, if time goes with positions."""
        each, once = self.k * (self.prompt + self.answer), self.prompt + self.k * self.answer
        return each / once

    def batch(self, vocabulary: int) -> Batch:
        """Draw it: the same for the same group."""
        source = random.Random(0)

        def ids(count: int) -> list[int]:
            return [source.randrange(vocabulary) for _ in range(count)]

        return Batch([ids(self.prompt)], [[ids(self.answer) for _ in range(self.k)]])


def contestants(model: Any, batch: Batch) -> dict[str, Contestant]:
    """Our engine on both paths; the head is the same."""
    return {
        name: Contestant(partial(_step, Engine(model, path), batch))
        for name, path in ((APART, "padded"), (PACKED, "packed"))
    }


def naive_step(model: Any, batch: Batch) -> Tensor:
    """The reference of the gate: each sequence alone through all of the model."""
    model.train()
    return _descend(naive_logps(model, batch))


def _step(engine: Engine, batch: Batch) -> Tensor:
    engine.model.train()
    with engine.installed():
        return _descend(engine(batch).logps)


def _descend(logps: Tensor) -> Tensor:
    """A loss in which every completion counts differently."""
    means = logps.mean(-1)
    loss = (means * torch.linspace(-1, 1, means.shape[1], device=means.device)).sum()
    loss.backward()
    return loss.detach()
