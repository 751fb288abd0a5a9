"""The benchmark for GPUs, at a tiny shape on the CPU: the gate, the JSON, the refusals."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--shape", "tiny", "--device", "cpu", "--batch", "2", "--lengths", "12:5"]
TINY += ["--tokens", "3", "--long", "4", "--rounds", "1"]
DECODING = [*TINY, "--parts", "decoding"]
TRAINING = [*TINY, "--parts", "training", "--kinds", "text", "--spreads", "equal", "--pairs", "2"]
TRAINING += ["--ratios", "4:1", "--length", "25", "--groups", "3"]

# TRL calls what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


def test_a_run_writes_every_ratio_with_the_machine_it_belongs_to(gpu, tmp_path, capsys):
    path = tmp_path / "runs" / "gpu.json"
    gpu.main([*DECODING, "--json", str(path)])
    report = json.loads(path.read_text())
    assert {"cpu", "accelerators", "versions", "device"} <= report["facts"].keys()
    assert {"torch", "transformers", "accelerate"} <= report["facts"]["versions"].keys()
    assert report["arguments"]["dtype"] == "bfloat16"
    assert report["seconds"] > 0
    titles = [section["section"] for section in report["sections"]]
    assert titles == ["two branches", "prompt lookup", "static cache"]
    assert 0 < report["sections"][0]["error_share"] <= 1.25
    assert report["sections"][1]["forwards"]["plain generate"] == 4
    named = [
        (name, row)
        for section in report["sections"]
        for name, row in section["contestants"].items()
    ]
    assert {"ours, merged", "merged, prompt lookup", "merged, static cache"} <= dict(named).keys()
    for name, row in named:
        for key in ("first", "decode", "total"):
            assert row[f"{key}_ratio"] == 1 if name == "plain generate" else row[f"{key}_ratio"] > 0
    assert "ours, merged" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["CONTESTANTS", "DRAFTED", "COMPILED"])
def test_other_tokens_are_refused_before_a_time_is_printed(
    group, gpu, tmp_path, capsys, monkeypatch
):
    def wrong(model, case, count):
        return torch.zeros(case.rows, count, dtype=torch.long)

    monkeypatch.setitem(getattr(gpu, group), "a wrong one", wrong)
    path = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match="a wrong one gave other tokens"):
        gpu.main([*DECODING, "--json", str(path)])
    assert " ms " not in capsys.readouterr().out
    assert not path.exists()


def test_a_contestant_that_fails_is_named(gpu, tmp_path, monkeypatch):
    def failing(model, case, count):
        raise RuntimeError("no compiler here\nsecond line")

    monkeypatch.setitem(gpu.COMPILED, "a failing one", failing)
    path = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match=r"a failing one \(RuntimeError: no compiler here\)"):
        gpu.main([*DECODING, "--json", str(path)])
    static = json.loads(path.read_text())["sections"][-1]["contestants"]
    assert static["a failing one"] == {"error": "RuntimeError: no compiler here"}
    assert static["merged, static cache"]["decode_ratio"] > 0


def test_training_is_measured_in_bfloat16_with_lora_into_the_same_json(gpu, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    gpu.main([*TRAINING, "--json", str(path)])
    report = json.loads(path.read_text())
    assert {"cpu", "accelerators", "versions", "device"} <= report["facts"].keys()
    pair, group = report["sections"]
    assert (pair["section"], group["section"]) == gpu.training.SECTIONS
    assert {"TRL, defaults", "ours, cached reference"} <= pair["contestants"].keys()
    assert all(0 < one["error_share"] <= 1.25 for one in pair["contestants"].values())
    assert group["contestants"]["one packed row"]["times"]["a sequence each"] > 0
    # Its keys name the dtype that computes: another one's log-probs wouldn't be found.
    assert pair["contestants"]["ours, cached reference"]["tokens"] == 2 * (20 + 2 * 4)
    assert "ours, no checkpointing" in capsys.readouterr().out


def test_all_parts_follow_one_another(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "decoding", lambda *_: iter(["decoding"]))
    monkeypatch.setattr(gpu.training, "sections", lambda *_: iter(["training"]))
    monkeypatch.setattr(gpu.online, "sections", lambda *_: iter(["online"]))
    assert [*gpu.sections(gpu.parsed(TINY), torch.device("cpu"))] == [*gpu.PARTS]


def test_online_training_is_measured_in_bfloat16(gpu, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    given = ["--shape", "tiny", "--device", "cpu", "--rounds", "1", "--work", "2", "2", "6", "4"]
    gpu.main([*given, "--parts", "online", "--json", str(path)])
    (section,) = json.loads(path.read_text())["sections"]
    assert section["section"] == "online"
    assert section["contestants"]["ours"]["times"]["seconds"] > 0
    assert "ours, adapter beside" in capsys.readouterr().out


def test_what_runs_out_of_memory_is_a_result(gpu, tmp_path, monkeypatch):
    def large(model, case, count):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setitem(gpu.COMPILED, "a large one", large)
    path = tmp_path / "gpu.json"
    gpu.main([*DECODING, "--json", str(path)])
    static = json.loads(path.read_text())["sections"][-1]["contestants"]
    assert static["a large one"] == {"error": "OutOfMemoryError: no room"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_without_a_gpu_it_says_what_it_needs(gpu):
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main([])
