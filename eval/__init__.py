"""Measuring: benchmarks, models that answer them, runs, and reports with intervals."""

from .answers import Answer
from .arguments import Answerer
from .ask import Ask, Benchmark, Row, Scored
from .baselines import missing_baselines, with_baselines
from .chair import Chair, hallucination
from .counterfacts import Counterfacts
from .jsonl import read_jsonl
from .model import LanguageModel
from .nq_synth import NQSynth
from .pope import Pope
from .qa import contains, exact_match, f1, normalize, truncate
from .report import write_report
from .runner import Outcome, RunResult, run
from .sampling import KeyedSampling, item_seed
from .statistics import Estimate, Paired, holm, mean_estimate, paired
from .summary import summarize
from .table import BENCHMARKS
from .yes_no import PARSERS, parse

__all__ = [
    "BENCHMARKS",
    "PARSERS",
    "Answer",
    "Answerer",
    "Ask",
    "Benchmark",
    "Chair",
    "Counterfacts",
    "Estimate",
    "KeyedSampling",
    "LanguageModel",
    "NQSynth",
    "Outcome",
    "Paired",
    "Pope",
    "Row",
    "RunResult",
    "Scored",
    "contains",
    "exact_match",
    "f1",
    "hallucination",
    "holm",
    "item_seed",
    "mean_estimate",
    "missing_baselines",
    "normalize",
    "paired",
    "parse",
    "read_jsonl",
    "run",
    "summarize",
    "truncate",
    "with_baselines",
    "write_report",
]
