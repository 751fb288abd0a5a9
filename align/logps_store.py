"""Arrays by key in a SQLite file that several processes write and a kill doesn't break."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

PATIENCE = 60.0  # seconds to wait for another process that writes
BATCH = 500  # keys a query


class LogpsStore:
    """Float32 arrays of known lengths. Each call opens the file, so that forks don't share it.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, lengths: Mapping[bytes, int]) -> dict[bytes, np.ndarray]:
        """Look keys up.

        Args:
            lengths: Key -> how many numbers it must have.

        Returns:
            Those that are there.

        Raises:
            OSError: The file can't be read, or holds something else.
        """
        keys = iter(lengths)
        found: dict[bytes, np.ndarray] = {}
        with self._opened() as database:
            while part := list(islice(keys, BATCH)):
                marks = ", ".join("?" * len(part))
                query = f"SELECT key, value FROM logps WHERE key IN ({marks})"
                for key, value in database.execute(query, part):
                    found[key] = np.frombuffer(value, dtype="<f4")
        if broken := [key for key, value in found.items() if len(value) != lengths[key]]:
            raise OSError(f"{self.path} holds {len(broken)} broken entries. Delete it.")
        return found

    def write(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Add entries, all or none of them; those that are there already stay.

        Raises:
            OSError: The file can't be written.
        """
        rows = [(key, value.astype("<f4").tobytes()) for key, value in values.items()]
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR IGNORE INTO logps VALUES (?, ?)", rows)
            database.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            with closing(connection) as database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS logps "
                    "(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
                )
                yield database
        except sqlite3.Error as error:
            raise OSError(
                f"the reference's log-probs in {self.path} can't be read or written ({error}). "
                "Make room, delete a broken file, or set CONTRALIGN_CACHE to another folder."
            ) from error
