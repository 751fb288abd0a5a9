"""Processes that tests start: what they import, on how many threads, at which port they meet."""

from __future__ import annotations

import os
import socket
from pathlib import Path

TESTS = Path(__file__).parent


def environment(folder: Path, **others: str) -> dict[str, str]:
    """Of a process that imports what tests import, on one thread."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
        "CONTRALIGN_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        **others,
    }


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])
