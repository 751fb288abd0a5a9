"""What training and evaluation measure, kept as sums and counts on the device until they're logged.

A mean is taken once, over all examples of all processes since the last line of the log, so it
doesn't depend on how they were cut into batches, and no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .batch import Batch

FEWEST = 10
"""Held-out examples that say something of their spread, for a standard error."""
DRIFTS = ("logps/chosen_drift", "logps/rejected_drift")
ESTIMATED = (
    *("loss", "nll/chosen", "nll/rejected", "rewards/margins", "rewards/accuracies"),
    *("scores/mean", *DRIFTS),
)
MOMENTS = ("rewards/covariance", "rewards/variance", "scores/variance")
MEASURED = (
    *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("logps/chosen", "logps/rejected", *DRIFTS, "kl", "entropy"),
    *("lengths/prompt", "lengths/chosen", "lengths/rejected"),
)


class Meter:
    """Means of named numbers, over whatever was added since the last reading."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor, real: Tensor) -> None:
        """Add numbers.

        Args:
            name: What they are.
            values: Numbers.
            real: Which of them count: the others stand in for examples that aren't there.
        """
        kind = torch.float32 if values.device.type == "mps" else torch.float64
        counted = values.detach().to(kind).masked_fill(~real, 0)
        total = torch.stack([counted.sum(), counted.square().sum(), real.sum().to(kind)])
        self._totals[name] = self._totals[name] + total if name in self._totals else total

    def read(
        self, reduce: Callable[[Tensor], Tensor], errors: Collection[str] = (), fewest: int = 2
    ) -> dict[str, float]:
        """Take the means and start afresh.

        Args:
            reduce: Sums a tensor over all processes, each of which added the same names.
            errors: Names whose mean gets its standard error beside it, as NAME_se; each number of
                theirs must be of another example.
            fewest: How many of them it takes.

        Returns:
            Name -> mean; names of which nothing counted are left out.
        """
        if not self._totals:
            return {}
        names = sorted(self._totals)
        totals = reduce(torch.stack([self._totals[name] for name in names])).tolist()
        self._totals = {}
        read = {name: sum_ / n for name, (sum_, _, n) in zip(names, totals, strict=True) if n}
        for name, (sum_, squares, n) in zip(names, totals, strict=True):
            if name in errors and n >= fewest:
                spread = max(squares - sum_ * sum_ / n, 0)
                read[f"{name}_se"] = math.sqrt(spread / (n - 1) / n)
        return read


def measure(
    meter: Meter,
    batch: Batch,
    policy: Float[Tensor, "prompts k tokens"],
    reference: Float[Tensor, "prompts k tokens"] | None,
    entropy: Float[Tensor, "prompts k tokens"] | None,
    real: Bool[Tensor, " prompts"],
) -> None:
    """Add what every preference method looks at.

    logps/chosen and logps/rejected are sums over a completion, in nats; of a group, its first and
    its last, samples beside the data's left out. Their drift is what was added to them since
    training began: `h = log pi - log ref` where the reference is that beginning (see `Drift` for
    others). kl is `exp(h_t) - 1 - h_t`, the mean over completion tokens of the data: Schulman's
    third estimator of KL(reference || policy) in nats a token, unbiased where the completions were
    sampled from the reference, and at least zero on any others. Where there are samples of the
    policy it is `exp(-h_t) - 1 + h_t`, the mean over their tokens: the same of KL(policy ||
    reference). entropy is the policy's, in nats, the mean over completion tokens.

    Args:
        meter: What to add to.
        batch: The examples.
        policy: Log-probs in nats, zero on padding.
        reference: The same of the reference, if there is one.
        entropy: Of the policy.
        real: Which examples count.
    """
    own = batch.k - batch.sampled or batch.k
    mask = batch.mask.to(policy.device) & real[:, None, None]
    ratio = policy.detach() - (0 if reference is None else reference)
    for name, index in zip(batch.sides, (0, own - 1)[:own], strict=False):
        meter.add(f"logps/{name}", policy[:, index].sum(-1), real)
        meter.add(f"logps/{name}_drift", ratio[:, index].sum(-1), real)
        meter.add(f"lengths/{name}", batch.mask[:, index].sum(-1).to(policy.device), real)
    prompts = torch.tensor([len(prompt) for prompt in batch.prompts])
    meter.add("lengths/prompt", prompts.to(policy.device), real)
    if reference is not None:
        drawn = batch.drawn.to(mask.device)
        ratio = torch.where(drawn, -ratio, ratio)
        meter.add("kl", torch.expm1(ratio) - ratio, mask & drawn if batch.sampled else mask)
    if entropy is not None:
        meter.add("entropy", entropy, mask)


def correlated(measured: dict[str, float]) -> dict[str, float]:
    """Turn the second moments of implicit rewards and scores into rewards/correlation.

    It is Pearson's, of their differences within prompts; left out where one of them is constant.
    """
    covariance, *spread = (measured.pop(name, 0.0) for name in MOMENTS)
    if all(value > 0 for value in spread):
        measured["rewards/correlation"] = covariance / math.sqrt(math.prod(spread))
    return measured


class Drift:
    """Makes the drift count from the beginning of training, whatever the reference is.

    Where the reference is that beginning, `log pi - log ref` is the drift. Otherwise (another
    model, one that moves, none) its mean over the first examples measured is taken off: in
    evaluation these are the same rows every time, in training others, so there it's an estimate.

    Attributes:
        exact: Whether the reference is the policy at the beginning.
        first: Name -> the mean at the beginning, where it had to be remembered.
    """

    def __init__(self, exact: bool, first: Mapping[str, float] | None = None) -> None:
        self.exact = exact
        self.first = dict(first or {})

    def __call__(self, measured: dict[str, float], prefix: str = "") -> dict[str, float]:
        """Correct what a `Meter` read; the prefix tells data sets apart."""
        if self.exact:
            return measured
        drifts = {name: measured[name] for name in DRIFTS if name in measured}
        for name, value in drifts.items():
            drifts[name] = value - self.first.setdefault(prefix + name, value)
        return {**measured, **drifts}


def tokens(batch: Batch, examples: int | None = None) -> int:
    """Count the tokens of a batch's first examples, each prompt once, without padding."""
    prompts, answers = batch.prompts[:examples], batch.completions[:examples]
    return sum(map(len, prompts)) + sum(len(answer) for group in answers for answer in group)


def real_examples(size: int, remainder: int, share: int, process: int) -> int:
    """How many examples of a process's share of an epoch's last round are there for the first time.

    accelerate fills that round with examples from the epoch's beginning, so that all processes get
    as many. The real ones come first, in the order of the processes.

    Args:
        size: Examples that this process got.
        remainder: Examples of the data that the last round holds; 0 or less: it's full, or unknown.
        share: Examples that a process gets in a full round.
        process: The number of this process.
    """
    return max(0, min(size, remainder - process * share)) if remainder > 0 else size
