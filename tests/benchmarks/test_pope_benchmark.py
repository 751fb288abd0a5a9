"""The POPE benchmark at a tiny shape: every way says the same, or no time is printed."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = [
    "--shape",
    "tiny",
    "--patches",
    "2",
    "--questions",
    "6",
    "--different",
    "4",
    "--rounds",
    "1",
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "pope.py"))


def test_every_way_is_timed_and_written(script, tmp_path, capsys):
    script["main"]([*TINY, "--json", str(tmp_path / "pope.json")])
    out = capsys.readouterr().out
    assert "same answers: {" in out
    assert out.count("'n") == 2
    report = json.loads((tmp_path / "pope.json").read_text())
    assert report["seconds"].keys() == script["WAYS"].keys()
    assert report["facts"]["arguments"]["different"] == 4


def test_other_answers_are_refused_before_a_time_is_printed(script, capsys):
    script["WAYS"]["a wrong one"] = lambda model, asks: ["?"] * len(asks)
    with pytest.raises(SystemExit, match="a wrong one gave other answers than one at a time"):
        script["main"](TINY)
    assert " s " not in capsys.readouterr().out


def test_a_picture_is_as_many_tokens_as_the_real_one(script):
    """336 pixels in patches of 14 are 576 tokens; LLaVA's prompt adds a few dozen."""
    model = script["llava"]("tiny", 24)
    ((ask, *_),) = script["asks"](1, 1, 1)
    inputs, _ = model.encoded([ask], script["parse"]("greedy"), [0])
    places = (inputs["input_ids"] == model.model.config.image_token_id).sum().item()
    assert places == 576
    assert 40 <= inputs["input_ids"].shape[1] - places <= 70
