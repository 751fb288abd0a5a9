"""How much memory something takes at its peak, on top of what was held before."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def grown(act: Callable[[], object], device: torch.device) -> float | None:
    """Run something once.

    Returns:
        MiB: on CUDA of allocated memory, on Linux of resident memory (right to about a tenth);
        None elsewhere.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        act()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not RESET.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)
    RESET.write_text("5")
    before = _status("VmRSS")
    act()
    return (_status("VmHWM") - before) / 2**10


def _status(name: str) -> int:
    """KiB."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
