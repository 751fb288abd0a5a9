"""The toy behind docs/hypo.md: without online samples the KL grows for ever, with them it rests."""

from __future__ import annotations

import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from contralign.align import HyPO

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def toy() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / "coverage.py"))


def test_the_kl_is_half_the_square_of_theta(toy: dict[str, Any]) -> None:
    theta = torch.tensor(3.0, dtype=torch.float64)
    policy, reference = toy["logps"](theta), toy["logps"](torch.zeros_like(theta))
    assert float((policy.exp() * (policy - reference)).sum()) == pytest.approx(4.5)


def test_dpo_goes_on_and_hypo_rests(toy: dict[str, Any]) -> None:
    dpo = toy["train"](HyPO(1.0, 0.0), 600, 16)
    assert all(later > earlier for earlier, later in pairwise(dpo))
    assert dpo[-1] > 14
    rest = toy["resting"](1.0, 0.1)
    assert rest == pytest.approx(1.334, abs=1e-3)
    for baseline in ("none", "leave_one_out"):
        hypo = toy["train"](HyPO(1.0, 0.1, baseline), 600, 16)
        assert max(hypo) < 2 * rest
        assert sum(hypo[200:]) / 400 == pytest.approx(rest, abs=0.1)


def test_it_draws_what_it_found(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["coverage.py", "--updates", "20", "--output", str(tmp_path / "plot.png")]
    monkeypatch.setattr("sys.argv", words)
    toy["main"]()
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert "HyPO rests at 1.33 nats" in capsys.readouterr().out
