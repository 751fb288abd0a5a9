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
def hallucination(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "hallucination.py"))


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **budget: int) -> dict[str, Any]:
    """Run an experiment from its command line; returns its numbers."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    words = [word for key, value in budget.items() for word in (f"--{key}", str(value))]
    where = ["--work", str(folder / "work"), "--output", str(folder / "output")]
    monkeypatch.setattr("sys.argv", [name, *where, *words])
    runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    found = json.loads((folder / "output" / "numbers.json").read_text())
    return dict(found)


def test_questions_of_a_picture_are_one_value(hallucination: dict[str, Any]) -> None:
    said = [("a", "random", 1.0), ("a", "random", 0.0), ("b", "random", 1.0), ("a", "popular", 1.0)]
    scored = [
        SimpleNamespace(row={"image": image, "category": kind}, values={"accuracy": right})
        for image, kind, right in said
    ]
    found = hallucination["by_picture"](scored, "POPE")
    assert found == {"POPE accuracy, random": [0.5, 1.0], "POPE accuracy, popular": [1.0]}


def test_a_cell_holds_the_mean_its_difference_and_the_seeds(hallucination: dict[str, Any]) -> None:
    after = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert (
        hallucination["compared"](after, [0.25] * 3) == "0.500 (+0.250 to +0.250)<br>1.000, 0.000"
    )
    assert hallucination["spread"]([1.0, 2.0]) == "1.500<br>1.000, 2.000"


@pytest.mark.slow
def test_alignment_on_a_handful_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("alignment.py", tmp_path, monkeypatch, **TINY)
    assert found["after"].keys() == {"dpo", "hypo", "cpl", "copg", "copg online", "mpo"}
    table = (tmp_path / "output" / "tables.md").read_text()
    assert "| CHAIRs, counter-bias | " in table
    assert "| KL a token | 0.000 | " in table
    # A second start finds all that it needs.
    assert run("alignment.py", tmp_path, monkeypatch, **TINY) == found


@pytest.mark.slow
def test_decoupling_on_a_handful_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("decoupling.py", tmp_path, monkeypatch, **TINY)
    assert found["moved"]["vcd"] == [{}]
    assert found["moved"]["dcd, both"][0]["log-prob of invented captions"] != 0
    table = (tmp_path / "output" / "tables.md").read_text()
    assert "| POPE accuracy, adversarial | " in table
    with pytest.raises(SystemExit):
        run("decoupling.py", tmp_path, monkeypatch, **TINY | {"tested": 5})


def test_only_what_failed_is_made_again(hallucination: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "run" / "found.json"
    file.parent.mkdir()
    (file.parent / "half").touch()
    made = {"values": {"CHAIRs": [1.0, 0.0]}, "moved": {}}
    assert hallucination["kept"](file, lambda: made) == made
    assert [path.name for path in file.parent.iterdir()] == ["found.json"]
    assert hallucination["kept"](file, dict) == made
