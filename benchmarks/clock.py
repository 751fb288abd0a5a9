"""Times of contestants, taken in turn, round after round, in one process.

"decode" is the time of one token after the first, "first" that of prefill and first token, both the
best of all rounds. On a CPU the clock is process CPU time; on CUDA it is wall time between
synchronizations, the Python in between included.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from contest import BASE, Case, Run

TIMES = ("first", "decode", "total")
Results = dict[str, dict[str, Any]]


def seconds(run: Run, model: Any, case: Case, count: int) -> float:
    """Time one run."""
    gc.collect()
    if model.device.type != "cuda":
        begun = time.process_time()
        run(model, case, count)
        return time.process_time() - begun
    torch.cuda.synchronize(model.device)
    begun = time.perf_counter()
    run(model, case, count)
    torch.cuda.synchronize(model.device)
    return time.perf_counter() - begun


def measure(
    model: Any, case: Case, count: int, rounds: int, contestants: Mapping[str, Run]
) -> Results:
    """Time every contestant in turn, `rounds` times, with one and with `count` tokens.

    Returns:
        For each its seconds, their ratios to plain generate's, and on CUDA its peak memory; one
        that fails (out of memory, no compiler) has an `error` instead.
    """
    results: Results = {name: {} for name in contestants}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    with quick_collection():
        for round_ in range(rounds + 1):
            for name in [name for name in contestants if "error" not in results[name]]:
                try:
                    taken = _both(contestants[name], model, case, count)
                except RuntimeError as error:
                    results[name] = {"error": described(error)}
                    continue
                if round_:  # the first one warms up
                    times[name].append(taken)
                else:
                    results[name] = _peak(model)
    for name in [name for name in contestants if "error" not in results[name]]:
        first, total = (min(taken) for taken in zip(*times[name], strict=True))
        decode = (total - first) / (count - 1)
        results[name] |= dict(zip(TIMES, (first, decode, total), strict=True))
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


def described(error: Exception) -> str:
    """The error's name and its first line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _both(run: Run, model: Any, case: Case, count: int) -> tuple[float, float]:
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    return seconds(run, model, case, 1), seconds(run, model, case, count)


def _peak(model: Any) -> dict[str, float]:
    """The most memory allocated at once, weights included, since `_both` began."""
    if model.device.type != "cuda":
        return {}
    return {"peak_gib": torch.cuda.max_memory_allocated(model.device) / 2**30}
