from __future__ import annotations

from contralign.eval.table import BENCHMARKS


def test_every_benchmark_stands_under_its_own_name() -> None:
    assert {name: benchmark.name for name, benchmark in BENCHMARKS.items()} == {
        name: name for name in BENCHMARKS
    }
