"""The online benchmark at a tiny shape: what it writes, and that its gate holds."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--shape", "tiny", "--work", "2", "3", "6", "4", "--rounds", "1"]
CPU = torch.device("cpu")

# TRL calls what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def bench() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        names = ("online", "online_contest", "shapes")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def both(bench: Any, tmp_path: Path) -> Any:
    model = bench.shapes.random_model("tiny", torch.float32, CPU)
    return bench.online_contest.trainers(model, bench.online_contest.Work(2, 3, 6, 4), tmp_path)


def test_every_part_is_timed_and_written(bench: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "online.json"
    bench.online.main([*TINY, "--json", str(path)])
    report = json.loads(path.read_text())
    assert report["facts"]["command"].startswith("python benchmarks/online.py --shape tiny ")
    (section,) = report["sections"]
    assert (section["prompts"], section["k"], section["answer"]) == (2, 3, 4)
    assert section["apart"] <= 1e-4
    rows = section["contestants"]
    assert [*rows] == ["TRL RLOO", "ours", "ours, adapter beside", "ours, continuous batching"]
    for row in rows.values():
        parts = [row[part] for part in bench.online.PARTS]
        assert min(parts) > 0
        assert row["seconds"] == pytest.approx(sum(parts))
        assert row["times"]["seconds"] == pytest.approx(
            rows["TRL RLOO"]["seconds"] / row["seconds"]
        )
    assert "ours, adapter beside" in capsys.readouterr().out


def test_other_log_probs_are_refused(bench: Any, both: Any, monkeypatch: Any) -> None:
    score = both.theirs._get_per_token_logps_and_entropies

    def wrong(*given: Any) -> Any:
        logps, *others = score(*given)
        return logps + 1e-3, *others

    assert bench.online_contest.check(both) <= 1e-4
    monkeypatch.setattr(both.theirs, "_get_per_token_logps_and_entropies", wrong)
    with pytest.raises(SystemExit, match=r"1\.0e-03 nats apart: no times"):
        bench.online_contest.check(both)


def test_fewer_tokens_are_refused(bench: Any, both: Any, monkeypatch: Any) -> None:
    generate = both.theirs._generate

    def short(*given: Any) -> Any:
        prompts, said, *others = generate(*given)
        return prompts, [said[0][:-1], *said[1:]], *others

    monkeypatch.setattr(both.theirs, "_generate", short)
    with pytest.raises(SystemExit, match="a completion hasn't 4 tokens: no times"):
        bench.online_contest.check(both)


def test_what_an_inner_part_takes_is_not_the_outer_ones(bench: Any) -> None:
    def work(seconds: float) -> None:
        begun = time.process_time()
        while time.process_time() - begun < seconds:
            pass

    watch = bench.online_contest.Watch(CPU)
    with watch("outer"):
        work(0.05)
        with watch("inner"):
            work(0.1)
    assert watch.spent["inner"] == pytest.approx(0.1, abs=0.03)
    assert watch.spent["outer"] == pytest.approx(0.05, abs=0.03)
