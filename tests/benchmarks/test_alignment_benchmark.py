"""The alignment benchmark: its tables by hand, and all of it on a handful of pictures."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = {"seeds": 1, "pictures": 16, "epochs": 1, "batch": 2, "tested": 10}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "alignment.py"))


def test_questions_of_a_picture_are_one_value(script: dict[str, Any]) -> None:
    said = [("a", "random", 1.0), ("a", "random", 0.0), ("b", "random", 1.0), ("a", "popular", 1.0)]
    scored = [
        SimpleNamespace(row={"image": image, "category": kind}, values={"accuracy": right})
        for image, kind, right in said
    ]
    found = script["by_picture"](scored, "POPE")
    assert found == {"POPE accuracy, random": [0.5, 1.0], "POPE accuracy, popular": [1.0]}


def test_a_cell_holds_the_mean_its_difference_and_the_seeds(script: dict[str, Any]) -> None:
    after = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert script["compared"](after, [0.25] * 3) == "0.500 (+0.250 to +0.250)<br>1.000, 0.000"
    assert script["spread"]([1.0, 2.0]) == "1.500<br>1.000, 2.000"


@pytest.mark.slow
def test_a_handful_of_pictures(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    where = ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "output")]
    monkeypatch.setattr("sys.argv", ["alignment.py", *where, *words])
    script["main"]()
    found = json.loads((tmp_path / "output" / "numbers.json").read_text())
    assert found["after"].keys() == {"dpo", "cpl", "copg", "copg online"}
    table = (tmp_path / "output" / "tables.md").read_text()
    assert "| CHAIRs, counter-bias | " in table
    assert "| KL a token | | " in table
