"""Where pairs don't cover what a policy says, DPO's KL to the reference grows; HyPO's rests.

    python benchmarks/coverage.py --output docs/hypo.png

One prompt, 801 answers of one token y = -400 .. 400, a policy of one parameter:
`pi(y) ~ exp(theta * y - y^2 / 2)`. The reference has theta 0, so KL(pi || ref) is theta^2 / 2 nats,
whatever the data are: one pair, y = 1 chosen over y = 0. DPO gains from any larger theta, which
moves all of the policy to answers that no pair speaks of. HyPO rests where
`lambda * theta = beta * sigmoid(-beta * theta)`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from contralign.align import Batch, HyPO

ANSWERS = torch.arange(-400, 401, dtype=torch.float64)
PAIR = (401, 400)
RATE = 0.5


def logps(theta: Tensor) -> Tensor:
    return (theta * ANSWERS - ANSWERS.square() / 2).log_softmax(-1)


def train(loss: HyPO, updates: int, k: int, seed: int = 0) -> list[float]:
    """Descend by plain gradients; returns KL(pi || ref) in nats before each update.

    Args:
        loss: With lambda 0 it is DPO.
        updates: How many.
        k: Samples an update.
        seed: Of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    reference, passed = logps(theta).detach(), []
    for _ in range(updates):
        policy = logps(theta)
        passed.append(float((policy.exp() * (policy - reference)).sum().detach()))
        drawn = torch.multinomial(policy.detach().exp(), k, replacement=True, generator=generator)
        said = [*PAIR, *drawn.tolist()]
        batch = replace(Batch([[0]], [[[y] for y in said]]), sampled=k)
        (value,), _ = loss(policy[said][None, :, None], reference[said][None, :, None], batch)
        (slope,) = torch.autograd.grad(value, theta)
        theta = (theta - RATE * slope).detach().requires_grad_()
    return passed


def resting(beta: float, lmbda: float) -> float:
    """HyPO's KL where both terms' gradients cancel, in nats; by bisection."""
    low, high = 0.0, 100.0
    for _ in range(100):
        theta = (low + high) / 2
        pulls = beta / (1 + math.exp(beta * theta)) > lmbda * theta
        low, high = (theta, high) if pulls else (low, theta)
    return low * low / 2


def draw(lines: dict[str, Sequence[float]], rest: float, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, values in lines.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linewidth=1.2)
    axes.axhline(rest, color="gray", linestyle=":", label="where HyPO's gradient is 0")
    axes.set(xscale="log", xlabel="update", ylabel="KL(policy || reference), nats")
    axes.set_title("One pair; most of what the policy comes to say is in no pair")
    axes.legend()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=32, help="of an update")
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--lmbda", type=float, default=0.1)
    parser.add_argument("--output", type=Path, required=True, help="the picture")
    args = parser.parse_args()
    losses = {
        "DPO": HyPO(args.beta, 0.0),
        "HyPO": HyPO(args.beta, args.lmbda),
        "HyPO, leave-one-out": HyPO(args.beta, args.lmbda, "leave_one_out"),
    }
    lines = {name: train(loss, args.updates, args.samples) for name, loss in losses.items()}
    rest = resting(args.beta, args.lmbda)
    for name, values in lines.items():
        at = [step for step in (10, 100, 1000, len(values)) if step <= len(values)]
        print(name, ", ".join(f"{values[step - 1]:.2f} nats at update {step}" for step in at))
    print(f"HyPO rests at {rest:.2f} nats")
    draw(lines, rest, args.output)


if __name__ == "__main__":
    main()
