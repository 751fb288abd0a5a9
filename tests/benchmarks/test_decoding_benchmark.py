"""The decoding benchmark at a tiny shape: what it writes, and that its gate holds."""

from __future__ import annotations

import importlib
import json
import runpy
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--shape", "tiny", "--batch", "2", "--lengths", "12:5", "--tokens", "3", "--rounds", "1"]


@pytest.fixture
def contest(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("contest")


@pytest.fixture
def shapes(contest):
    return importlib.import_module("shapes")


@pytest.fixture
def clock(contest):
    return importlib.import_module("clock")


@pytest.fixture
def main(contest):
    return runpy.run_path(str(BENCHMARKS / "decoding.py"))["main"]


def test_both_dtypes_pass_the_gate_and_are_written_as_ratios(main, contest, tmp_path, capsys):
    path = tmp_path / "decoding.json"
    main([*TINY, "--json", str(path)])
    report = json.loads(path.read_text())
    assert {"cpu", "versions", "arguments"} <= report["facts"].keys()
    full, half = report["results"]
    assert (full["dtype"], full["error_share"]) == ("float32", 1)
    assert half["dtype"] == "bfloat16"
    assert 0 < half["error_share"] <= contest.MOST
    for row in (full, half):
        assert row["contestants"].keys() == contest.CONTESTANTS.keys()
        assert row["contestants"]["plain generate"]["decode_ratio"] == 1
        assert all(one["first_ratio"] > 0 for one in row["contestants"].values())
    out = capsys.readouterr().out
    assert "same tokens" in out
    assert "error" in out


def test_other_tokens_are_refused_before_a_time_is_printed(main, contest, capsys, monkeypatch):
    def wrong(model, case, count):
        return torch.zeros(case.rows, count, dtype=torch.long)

    monkeypatch.setitem(contest.CONTESTANTS, "a wrong one", wrong)
    with pytest.raises(SystemExit, match="a wrong one gave other tokens"):
        main(TINY)
    assert " ms " not in capsys.readouterr().out


def test_larger_errors_are_refused(contest, shapes, monkeypatch):
    """A merged run with another alpha errs far more than the naive loop."""
    model = shapes.random_model("tiny", torch.bfloat16, torch.device("cpu"))
    case = contest.Case(2, 12, 5)
    other = contest.generate
    monkeypatch.setattr(
        contest,
        "generate",
        lambda model, main, method, *given, **options: other(
            model, main, contest.CAD(alpha=1.1), *given, **options
        ),
    )
    with pytest.raises(SystemExit, match="times as much as the naive loop's"):
        contest.check_errors(model, case, 3)


def test_exact_is_float32_on_the_same_weights_and_leaves_them(contest, shapes):
    model = shapes.random_model("tiny", torch.bfloat16, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wide = shapes.random_model("tiny", torch.float32, torch.device("cpu"))
    wide.load_state_dict(before)
    ids = contest.Case(2, 12, 5).prompts(model)[0]["input_ids"]
    with torch.no_grad():
        with contest.exact(model):
            found = model(ids).logits
        assert torch.equal(found, wide(ids).logits)
        assert model(ids).logits.dtype == torch.bfloat16
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


def test_a_contestant_that_fails_has_an_error_and_no_times(contest, shapes, clock):
    def failing(model, case, count):
        raise RuntimeError("out of memory\nand more")

    model = shapes.random_model("tiny", torch.float32, torch.device("cpu"))
    contestants = {contest.BASE: contest.plain(), "one that fails": failing}
    results = clock.measure(model, contest.Case(1, 6, 3), 3, 1, contestants)
    assert results["one that fails"] == {"error": "RuntimeError: out of memory"}
    assert results[contest.BASE]["total_ratio"] == 1
    assert "one that fails               RuntimeError: out of memory" in clock.table(results)


def test_ratios_are_times_over_plain_generates(clock, contest):
    rows = {
        contest.BASE: {"first": 2.0, "decode": 0.5, "total": 6.0},
        "other": {"first": 3.0, "decode": 1.0, "total": 11.0},
    }
    found = clock.compared(rows)["other"]
    ratios = {key: found[f"{key}_ratio"] for key in ("first", "decode", "total")}
    assert ratios == {"first": 1.5, "decode": 2.0, "total": pytest.approx(11 / 6)}
