"""Models and what lies beside them, read so that a failure names them and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError


@contextmanager
def readable(what: str, name: str) -> Iterator[None]:
    """Name what can't be read.

    Args:
        what: As in "an adapter is a folder or a hub id".
        name: The one that was named.

    Raises:
        ValueError: It isn't there, is broken, or doesn't fit.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first, *more = str(error).strip().splitlines() or [type(error).__name__]
        reason = " ".join([first.strip(), *(line.strip() for line in more[:1])])
        raise ValueError(
            f"{what} is a folder or a hub id, but {name} can't be read as either: {reason}"
        ) from error
