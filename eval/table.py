"""The benchmarks by the name that the command line and reports give them."""

from __future__ import annotations

from .ask import Benchmark
from .chair import Chair
from .counterfacts import Counterfacts
from .nq_synth import NQSynth
from .pope import Pope
from .scenes.amber import ScenesAMBER
from .scenes.benchmarks import ScenesCHAIR, ScenesMME, ScenesPOPE

BENCHMARKS: dict[str, type[Benchmark]] = {
    "chair": Chair,
    "counterfacts": Counterfacts,
    "nq-synth": NQSynth,
    "pope": Pope,
    "scenes-amber": ScenesAMBER,
    "scenes-chair": ScenesCHAIR,
    "scenes-mme": ScenesMME,
    "scenes-pope": ScenesPOPE,
}
