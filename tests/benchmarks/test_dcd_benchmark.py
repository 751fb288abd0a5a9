"""The DCD benchmark at a tiny shape: nobody is timed who says something else or looks too often."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--shape", "tiny", "--batch", "2", "--words", "4", "--tokens", "3", "--rounds", "1"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "dcd.py"))


def test_everybody_is_timed_and_written(script: Any, tmp_path: Path, capsys: Any) -> None:
    script["main"]([*TINY, "--json", str(tmp_path / "dcd.json")])
    out = capsys.readouterr().out
    assert "DCD neg-only: looked 1 times" in out
    assert "DCD neg-only, two looks: looked 2 times" in out
    (row,) = json.loads((tmp_path / "dcd.json").read_text())["results"]
    assert row["contestants"].keys() == script["LOOKS"].keys()
    assert row["prompt"] == 8


def test_one_look_too_many_is_found(script: Any, capsys: Any) -> None:
    script["LOOKS"]["DCD neg-only, two looks"] = 1
    with pytest.raises(SystemExit, match="two looks looked 2 times, not 1: no times"):
        script["main"](TINY)
    assert " ms " not in capsys.readouterr().out


def test_other_tokens_are_found(script: Any, capsys: Any) -> None:
    script["measured"].__globals__["naive"] = lambda model, *_: _[1]["input_ids"].repeat(1, 2)
    with pytest.raises(SystemExit, match="neg-only says something else than two models"):
        script["main"](TINY)
    assert " ms " not in capsys.readouterr().out
