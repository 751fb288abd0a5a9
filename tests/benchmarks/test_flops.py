"""Operations at an 8B model's true shape: exact, so the ratios that we claim are held to them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        names = ("completions", "flops", "operations", "preferences", "shapes")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.mark.parametrize(
    ("prompt", "answer", "live", "cached", "defaults"),
    [
        (512, 512, 1.33, 1.96, 1.74),
        (2048, 512, 1.67, 2.47, 2.21),
        (5120, 512, 1.85, 2.70, 2.44),
    ],
    ids=["1:1", "4:1", "10:1"],
)
def test_a_pair_of_llama_8b_takes_this_much_less(prompt, answer, live, cached, defaults, bench):
    """Against TRL's best settings and, not checkpointing, its defaults."""
    case = bench.preferences.Case(1, prompt, answer)
    steps = bench.flops.counted("llama-8b", case)["contestants"]
    best = {name: row["times"]["TRL, best settings"] for name, row in steps.items()}
    assert best["ours, no checkpointing"] == pytest.approx(live, abs=0.01)
    assert best["ours, cached reference"] == pytest.approx(cached, abs=0.01)
    ours = steps["ours, no checkpointing"]
    assert ours["times"]["TRL, defaults"] == pytest.approx(defaults, abs=0.01)
    # Layers go with positions, the head doesn't.
    bound = 2 * (prompt + answer) / (prompt + 2 * answer - 2)
    assert ours["linear_times"]["TRL, best settings"] < bound


def test_padding_of_a_ragged_micro_batch_counts_too(bench):
    """At a small size: one layer's linear work goes with the positions that are forwarded."""
    case = bench.preferences.Case(4, 40, 10, ragged=True, batches=2)
    drawn = case.lengths()
    padded = sum(2 * 4 * max(p + max(c, r) for p, c, r in rows) for rows in drawn)
    packed = sum(p + c + r - 2 for rows in drawn for p, c, r in rows)
    batches = bench.flops.batches("tiny", case)
    one, other = (
        bench.operations.body("tiny", batches, way)["reference"]["linear"]
        for way in bench.operations.WAYS
    )
    assert one * packed == other * padded
    assert padded > 1.5 * sum(2 * p + c + r for rows in drawn for p, c, r in rows)


def test_an_image_goes_through_the_tower_once_for_us_and_four_times_for_trl(bench, monkeypatch):
    """Without a tower the counts are those of as many tokens of text."""
    case = bench.preferences.Case(2, 20, 5, images=True)
    found = bench.flops.steps("tiny", case)
    image = bench.operations.tower("tiny")["all"]
    text = bench.flops.steps("tiny", bench.preferences.Case(2, 20 + 4, 5))
    more = {name: (row["all"] - text[name]["all"]) / image for name, row in found.items()}
    assert more == {
        "TRL, defaults": 8,
        "TRL, best settings": 8,
        "ours, defaults": 4,
        "ours, no checkpointing": 4,
        "ours, cached reference": 2,
    }


def test_a_tower_by_hand(bench):
    """Patches and layers of CLIP, and two projections; a class token stands in front."""
    sizes, width = bench.shapes.TOWERS["tiny"], bench.shapes.SHAPES["tiny"]["hidden_size"]
    inside, between = sizes["hidden_size"], sizes["intermediate_size"]
    layer = 4 * inside * inside + 2 * inside * between
    weights = 4 * 3 * 14 * 14 * inside  # of the convolution, at four places
    weights += 5 * layer * sizes["num_hidden_layers"]
    weights += 4 * (inside * width + width * width)
    assert bench.operations.tower("tiny")["linear"] == 2 * weights


def test_operations_of_linear_layers_by_hand(bench):
    """Forward without adapter: a token multiplies each weight of each layer, and adds."""
    sizes = bench.shapes.SHAPES["llama-8b"]
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    weights = 2 * width * width + 2 * width * (width // 4) + 3 * width * inner
    batch = bench.completions.Group(2, 96, 32).batch(100)
    for way, positions in (("padded", 2 * 128), ("packed", 96 + 2 * 31)):
        counts = bench.operations.body("llama-8b", [batch], way)
        assert counts["reference"]["linear"] == 2 * positions * weights * 32
        assert counts["reference"]["all"] > counts["reference"]["linear"]
        assert counts["checkpointed"]["all"] > counts["policy"]["all"] > counts["reference"]["all"]


def test_two_depths_give_the_third(bench, monkeypatch):
    batches = [bench.completions.Group(2, 64, 16).batch(100)]
    monkeypatch.setitem(bench.shapes.SHAPES["tiny"], "num_hidden_layers", 3)
    for way in bench.operations.WAYS:
        whole = bench.operations.few_layers("tiny", 3, batches, way)
        assert bench.operations.body("tiny", batches, way) == whole


def test_a_frozen_head_saves_one_of_three_products(bench):
    units = bench.operations.head_units
    assert units(bench.operations.trl_head) == {"forward": 1, "step": 3}
    assert units(bench.operations.frozen_head) == {"forward": 1, "step": 2}


def test_a_run_writes_what_it_prints(bench, tmp_path, capsys):
    path = tmp_path / "flops.json"
    few = ["--kinds", "text", "--spreads", "equal", "--ratios", "4:1", "--length", "40"]
    few += ["--pairs", "1"]
    bench.flops.main(["--shape", "tiny", *few, "--groups", "8", "--json", str(path)])
    report = json.loads(path.read_text())
    (pair,), (group,) = report["pairs"], report["completions"]
    assert pair["contestants"]["TRL, defaults"]["times"]["TRL, defaults"] == 1
    assert group["times"] == pytest.approx(8 * 40 / (32 + 8 * 7), rel=0.15)
    out = capsys.readouterr().out
    assert "prompt:answer 32:8" in out
    assert "8 completions" in out
