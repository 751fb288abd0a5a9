"""Ways to compute one loss and its gradient: the gate before any clock, the clock, and counts.

In float32 all must give the naive way's loss and gradient; in half precision none may err much more
than a peer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from clock import Results, in_turn, seconds
from memory import grown
from torch import Tensor

from contralign.align.batch import Batch
from contralign.align.paths import own_logps

LOSS, GRADIENT = 1e-5, 1e-4  # differences in float32; the gradient's as a share of it
MOST = 1.25  # half-precision errors, as a share of the peer's


@dataclass(frozen=True)
class Contestant:
    """A way to do it.

    Attributes:
        step: Returns the loss and adds its gradient to the model's.
        around: What to enter before; it isn't timed.
    """

    step: Callable[[], Tensor]
    around: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)


def naive_logps(model: Any, batch: Batch) -> Tensor:
    """Each sequence alone through all of the model: what the gate compares with.

    Returns:
        Log-probs of the completions' tokens, padded as `batch.mask` is.
    """

    def call(inputs: Mapping[str, Any]) -> Tensor:
        moved = {k: x.to(model.device) if torch.is_tensor(x) else x for k, x in inputs.items()}
        return model(**moved).logits

    flat = own_logps(batch, call)
    mask = batch.mask.to(flat.device)
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def check_exact(
    model: Any, naive: Callable[[], Tensor], entries: Mapping[str, Contestant]
) -> Results:
    """Refuse to time contestants that don't compute the same thing in float32.

    Returns:
        Each one's errors of loss and gradient.

    Raises:
        SystemExit: One has another loss or gradient than the naive way.
    """
    loss, gradient = _computed(model, Contestant(naive))
    errors = {}
    for name, one in entries.items():
        own, slope = _computed(model, one)
        apart = {"loss_error": float(abs(own - loss)), "gradient_error": relative(slope, gradient)}
        if not (apart["loss_error"] <= LOSS and apart["gradient_error"] <= GRADIENT):
            told = ", ".join(f"{key} {value:.1e}" for key, value in apart.items())
            raise SystemExit(f"{name} doesn't compute what the naive loop does, {told}: no times.")
        errors[name] = apart
    return errors


def check_half(
    model: Any, naive: Callable[[], Tensor], entries: Mapping[str, Contestant], peer: str
) -> Results:
    """Compare half-precision gradients with exact ones; the model is float32 after this.

    Returns:
        Each one's error, and that as a share of the peer's.

    Raises:
        SystemExit: One errs by a quarter more than the peer.
    """
    found = {name: _computed(model, one)[1] for name, one in entries.items()}
    model.float()  # half-precision weights are float32 numbers too
    _, truth = _computed(model, Contestant(naive))
    errors = {name: relative(gradient, truth) for name, gradient in found.items()}
    shares = {name: error / errors[peer] for name, error in errors.items()}
    for name, share in shares.items():
        if not share <= MOST:
            raise SystemExit(f"the gradient of {name} errs {share:.2f} times as much as {peer}'s.")
    return {name: {"gradient_error": errors[name], "error_share": shares[name]} for name in entries}


def measure(model: Any, entries: Mapping[str, Contestant], rounds: int) -> Results:
    """Time all in turn; then let each do one more step that is looked into.

    Returns:
        For each its best time in seconds, the times of all rounds, its peak of memory in MiB, and
        what `counted` counts; one that fails (out of memory) has an `error` instead.
    """
    acts = {name: partial(_timed, model, one) for name, one in entries.items()}
    returned, errors = in_turn(acts, rounds)
    results: Results = {}
    for name, one in entries.items():
        if name in errors:
            results[name] = {"error": errors[name]}
            continue
        _, *times = returned[name]
        with one.around(), counted(model) as counts:
            peak = grown(one.step, model.device)
        model.zero_grad(set_to_none=True)
        results[name] = {"seconds": min(times), "rounds": times, "peak_mib": peak, **counts}
    return results


def compared(results: Results, bases: Iterable[str], key: str = "seconds") -> Results:
    """Add how many times less each took than each of the bases, where both have a number."""
    taken = {name: row[key] for name, row in results.items() if key in row}
    for name, own in taken.items():
        results[name]["times"] = {base: taken[base] / own for base in bases if base in taken}
    return results


@contextmanager
def counted(model: Any) -> Iterator[dict[str, int]]:
    """Count what goes through the language model and through the vision tower.

    Yields:
        tokens: Through the first layer, padding, reference and recomputation included.
        images: Through the vision tower.
    """
    counts = {"tokens": 0, "images": 0}

    def counting(name: str, axes: int) -> Callable[..., None]:
        def hook(_: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            first = args[0] if args else next(x for x in given.values() if torch.is_tensor(x))
            counts[name] += first.shape[:axes].numel()

        return hook

    inner = model.get_base_model()
    places = [(inner.get_decoder().layers[0].mlp, counting("tokens", 2))]
    if hasattr(inner.base_model, "vision_tower"):
        places.append((inner.base_model.vision_tower, counting("images", 1)))
    hooks = [part.register_forward_pre_hook(hook, with_kwargs=True) for part, hook in places]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def relative(found: Tensor, expected: Tensor) -> float:
    """The difference as a share of what it should be."""
    return float((found - expected).norm() / expected.norm())


def _computed(model: Any, one: Contestant) -> tuple[Tensor, Tensor]:
    """The loss, and the gradients of all that is trained in one row."""
    model.zero_grad(set_to_none=True)
    with one.around():
        loss = one.step().detach().float()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    gradient = torch.cat([row.flatten().float() for row in rows])
    model.zero_grad(set_to_none=True)
    return loss, gradient


def _timed(model: Any, one: Contestant) -> float:
    model.zero_grad(set_to_none=True)
    with one.around():
        return seconds(one.step, model.device)
