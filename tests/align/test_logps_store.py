"""The store keeps what was written, through kills and beside other writers."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from contralign.align import logps_store
from contralign.align.logps_store import LogpsStore

FORK = multiprocessing.get_context("fork")


def key(i: int) -> bytes:
    return i.to_bytes(16, "big")


def write(path: Path, first: int, count: int, pause: float = 0.0) -> None:
    store = LogpsStore(path)
    for i in range(first, first + count):
        store.write({key(i): np.full(i % 7 + 1, i)})
        time.sleep(pause)


def test_returns_the_bits_that_were_written(tmp_path: Path) -> None:
    store = LogpsStore(tmp_path / "deep" / "store.sqlite")
    assert store.read({key(1): 3}) == {}
    value = np.array([-1.5, -np.inf, -1e-30], dtype=np.float32)
    store.write({key(1): value, key(2): value[:1]})
    found = LogpsStore(store.path).read({key(1): 3, key(2): 1, key(3): 1})
    assert found.keys() == {key(1), key(2)}
    assert found[key(1)].dtype == np.float32
    assert found[key(1)].tobytes() == value.tobytes()


def test_reads_more_keys_than_one_query_holds(tmp_path: Path) -> None:
    store = LogpsStore(tmp_path / "store.sqlite")
    store.write({key(i): np.array([i]) for i in range(1200)})
    found = store.read({key(i): 1 for i in range(1201)})
    assert [found[key(i)].item() for i in range(1200)] == list(range(1200))


def test_the_first_to_write_wins(tmp_path: Path) -> None:
    store = LogpsStore(tmp_path / "store.sqlite")
    store.write({key(1): np.array([1.0])})
    store.write({key(1): np.array([2.0])})
    assert store.read({key(1): 1})[key(1)] == 1.0


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    writers = [FORK.Process(target=write, args=(path, first, 40)) for first in (0, 20)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
        assert process.exitcode == 0
    found = LogpsStore(path).read({key(i): i % 7 + 1 for i in range(60)})
    assert all((found[key(i)] == i).all() for i in range(60))


def test_what_was_stored_before_a_kill_stays(tmp_path: Path) -> None:
    store = LogpsStore(tmp_path / "store.sqlite")
    process = FORK.Process(target=write, args=(store.path, 0, 10**6, 0.005))
    process.start()
    while not store.read({key(20): 7}):
        assert process.is_alive()
    process.kill()
    process.join(60)
    found = store.read({key(i): i % 7 + 1 for i in range(10**4)})
    assert len(found) > 20
    assert found.keys() == {key(i) for i in range(len(found))}
    store.write({key(10**6): np.array([1.0])})
    assert store.read({key(10**6): 1})


def test_waits_for_another_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LogpsStore(tmp_path / "store.sqlite")
    store.write({key(1): np.array([1.0])})
    monkeypatch.setattr(logps_store, "PATIENCE", 0.01)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match=r"can't be read or written \(database is locked\)"):
        store.write({key(2): np.array([1.0])})
    other.execute("COMMIT")
    other.close()
    store.write({key(2): np.array([1.0])})
    assert store.read({key(2): 1})


def test_says_which_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(OSError, match=r"store\.sqlite can't be .*\(file is not a database\)"):
        LogpsStore(path).read({key(1): 1})
    path.unlink()
    store = LogpsStore(path)
    store.write({key(1): np.zeros(3)})
    with pytest.raises(OSError, match=r"holds 1 broken entries. Delete it"):
        store.read({key(1): 2})
