"""Times of contestants, taken in turn, round after round, in one process.

"decode" is the time of one token after the first, "first" that of prefill and first token, both the
best of all rounds. On a CPU the clock is process CPU time; on CUDA it is wall time between
synchronizations, the Python in between included.
"""

from __future__ import annotations

import gc
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from contest import BASE, Case, Run

TIMES = ("first", "decode", "total")
Results = dict[str, dict[str, Any]]
T = TypeVar("T")


def seconds(act: Callable[[], object], device: torch.device) -> float:
    """Time one call."""
    gc.collect()
    if device.type != "cuda":
        begun = time.process_time()
        act()
        return time.process_time() - begun
    torch.cuda.synchronize(device)
    begun = time.perf_counter()
    act()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def in_turn(
    acts: Mapping[str, Callable[[], T]], rounds: int
) -> tuple[dict[str, list[T]], dict[str, str]]:
    """Call each in turn, once to warm up and then `rounds` times.

    Returns:
        What each returned, the warm-up first; and what is wrong with those that failed (out of
        memory, no compiler), which returned nothing.
    """
    returned: dict[str, list[T]] = {name: [] for name in acts}
    errors: dict[str, str] = {}
    with quick_collection():
        for _ in range(rounds + 1):
            for name in [name for name in acts if name not in errors]:
                try:
                    returned[name].append(acts[name]())
                except RuntimeError as error:
                    errors[name] = described(error)
                    del returned[name]
    return returned, errors


def measure(
    model: Any, case: Case, count: int, rounds: int, contestants: Mapping[str, Run]
) -> Results:
    """Time every contestant in turn, `rounds` times, with one and with `count` tokens.

    Returns:
        For each its seconds, their ratios to plain generate's, and on CUDA its peak memory; one
        that fails (out of memory, no compiler) has an `error` instead.
    """
    acts = {name: partial(_both, run, model, case, count) for name, run in contestants.items()}
    returned, errors = in_turn(acts, rounds)
    results: Results = {name: {"error": errors[name]} if name in errors else {} for name in acts}
    for name, ((_, peak), *timed) in returned.items():
        first, total = (min(taken) for taken in zip(*(times for times, _ in timed), strict=True))
        decode = (total - first) / (count - 1)
        results[name] = peak | dict(zip(TIMES, (first, decode, total), strict=True))
    return compared(results)


@contextmanager
def quick_collection() -> Iterator[None]:
    """Leave what is loaded by now out of garbage collection, which comes before every run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def compared(results: Results) -> Results:
    """Add the ratios to plain generate, where both were timed."""
    base = results.get(BASE, {})
    ratios = {
        name: {f"{time}_ratio": row[time] / base[time] for time in TIMES if {*TIMES} <= {*row}}
        for name, row in results.items()
        if "first" in base
    }
    return {name: {**row, **ratios.get(name, {})} for name, row in results.items()}


def table(results: Results) -> str:
    """Lay the results out for a terminal."""
    lines = [f"{'':28} {'decode':>17} {'first':>17} {'total':>8} {'peak':>10}"]
    for name, row in results.items():
        if "error" in row:
            lines.append(f"{name:28} {row['error']}")
            continue
        cells = [f"{1000 * row[k]:8.1f} ms {row[f'{k}_ratio']:4.2f}x" for k in ("decode", "first")]
        peak = f"{row['peak_gib']:6.1f} GiB" if "peak_gib" in row else ""
        lines.append(
            f"{name:28} {cells[0]:>17} {cells[1]:>17} {row['total_ratio']:7.2f}x {peak:>10}"
        )
    return "\n".join(lines)


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Keep what was measured so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, default=str) + "\n")


def command(script: str, given: Sequence[str] | None) -> str:
    """How a script was started; None is from a shell."""
    return shlex.join(
        ["python", f"benchmarks/{script}", *(sys.argv[1:] if given is None else given)]
    )


def described(error: Exception) -> str:
    """The error's name and its first line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _both(
    run: Run, model: Any, case: Case, count: int
) -> tuple[tuple[float, float], dict[str, float]]:
    """Times with one and with all tokens, and the peak."""
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    one, all_ = (seconds(partial(run, model, case, n), model.device) for n in (1, count))
    return (one, all_), _peak(model)


def _peak(model: Any) -> dict[str, float]:
    """The most memory allocated at once, weights included, since it was reset."""
    if model.device.type != "cuda":
        return {}
    return {"peak_gib": torch.cuda.max_memory_allocated(model.device) / 2**30}
