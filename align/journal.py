"""What the log says of a run: numbers measured since its last line, speed, and warnings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .batch import Batch
from .engine import TokenLogps
from .metrics import ESTIMATED, FEWEST, Drift, Meter, correlated, measure, tokens
from .monitors import Watch

Reduce = Callable[[Tensor], Tensor]


class Journal:
    """Gathers numbers while a run goes on and turns them into lines.

    Args:
        exact_drift: See `Drift`.

    Attributes:
        seen: Tokens trained on so far, by all processes.
        drift: What log-probs are counted from.
        watch: What speaks up.
    """

    def __init__(self, exact_drift: bool) -> None:
        self.seen = 0
        self.drift = Drift(exact_drift)
        self.watch = Watch()
        self._meters = {True: Meter(), False: Meter()}
        self._uncounted = self._since_line = 0
        self._started, self._paused = time.perf_counter(), 0.0

    def add(
        self,
        batch: Batch,
        scored: TokenLogps,
        reference: Float[Tensor, "prompts k tokens"] | None,
        numbers: Mapping[str, Float[Tensor, "prompts ..."]],
        count: int,
        *,
        training: bool,
    ) -> None:
        """Add a batch.

        Args:
            batch: What was scored.
            scored: By the policy.
            reference: The reference's log-probs.
            numbers: One for each example, by name.
            count: How many of the first examples count.
            training: Or else evaluating.
        """
        meter = self._meters[training]
        real = torch.arange(len(batch), device=scored.logps.device) < count
        for name, values in numbers.items():
            meter.add(name, values, real)
        measure(meter, batch, scored.logps, reference, scored.entropy, real)
        self._uncounted += tokens(batch, count) if training else 0

    def training_line(
        self, reduce: Reduce, logs: Mapping[str, float], updates: int
    ) -> tuple[dict[str, float], list[str]]:
        """Read what training added since the last line.

        Args:
            reduce: Sums over processes.
            logs: What the line holds so far.
            updates: Updates since the last line.

        Returns:
            What goes into the line too, and what there is to warn of.
        """
        measured = self.drift(correlated(self._meters[True].read(reduce)))
        self.count(reduce)
        now = time.perf_counter()
        spent = max(now - self._started - self._paused, 1e-9)
        measured["tokens_per_second"] = round(self._since_line / spent, 1)
        measured["num_tokens"] = self.seen
        self._since_line, self._started, self._paused = 0, now, 0.0
        return measured, self.watch({**logs, **measured}, updates)

    def evaluation_line(self, reduce: Reduce, prefix: str) -> dict[str, float]:
        """Read what evaluation added, with standard errors where there are enough examples."""
        read = correlated(self._meters[False].read(reduce, ESTIMATED, FEWEST))
        return self.drift(read, f"{prefix}_")

    def count(self, reduce: Reduce) -> None:
        """Add up the processes' tokens."""
        new = int(reduce(torch.tensor(self._uncounted)))
        self._uncounted = 0
        self.seen += new
        self._since_line += new

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Keep the time of something else out of the tokens per second."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - before

    def restart_clock(self) -> None:
        """Count time from now on."""
        self._started, self._paused = time.perf_counter(), 0.0

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as JSON has it."""
        return {
            "seen": self.seen,
            "first": self.drift.first,
            "told": self.watch.told,
            "displaced_lines": self.watch.displacement.lines,
            "still_updates": self.watch.standstill.updates,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state` returned."""
        self.seen = state["seen"]
        self.drift.first = dict(state["first"])
        self.watch.told = dict(state["told"])
        self.watch.displacement.lines = state["displaced_lines"]
        self.watch.standstill.updates = state["still_updates"]
