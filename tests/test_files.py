"""Files that runs leave: whole or as they were, and what differs from them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from contralign.files import differences, replace_text


def test_a_text_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    replace_text(path, "old é")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_text(path, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text("utf-8") == "old é"
    replace_text(path, "new")
    assert path.read_text() == "new"


def test_replacing_leaves_nothing_else_behind(tmp_path: Path) -> None:
    for text in ("old", "new"):
        replace_text(tmp_path / "report.md", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_differences_are_named_by_their_place() -> None:
    there = {"seed": 0, "model": {"dtype": "float32", "name": "a"}, "extra": 1}
    here = {"seed": 0, "model": {"dtype": "bfloat16", "name": "a"}, "new": [1]}
    assert list(differences(there, here)) == [
        "extra was 1, is None",
        "model.dtype was 'float32', is 'bfloat16'",
        "new was None, is [1]",
    ]
    assert not list(differences(there, there))
