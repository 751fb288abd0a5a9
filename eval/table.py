"""The benchmarks by the name that the command line and reports give them."""

from __future__ import annotations

from .ask import Benchmark
from .counterfacts import Counterfacts
from .nq_synth import NQSynth

BENCHMARKS: dict[str, type[Benchmark]] = {
    "counterfacts": Counterfacts,
    "nq-synth": NQSynth,
}
