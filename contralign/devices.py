"""Where models are put, checked before any is loaded."""

from __future__ import annotations

import torch

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Device maps that accelerate works out by itself."""


def check_device(device: str | None) -> None:
    """Refuse a device that can hold no tensor here; None and device maps are left to accelerate.

    Raises:
        ValueError: With the way out.
    """
    if device is None or device in MAPS:
        return
    try:
        if torch.empty(0, device=device).is_meta:
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:
        reason, *_ = str(error).splitlines()
        raise ValueError(
            f"a model is put on a device of this machine, got {device!r}: {reason.rstrip('.')}. "
            "Take cpu, or leave it out."
        ) from error
