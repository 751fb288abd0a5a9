"""Preference data: loaded, checked, tokenised and joined to batches."""

from .checks import check
from .collate import PairCollator
from .formats import normalise
from .mixture import hold_out, load_mixture
from .needs import NEEDS, PAIRS, PROMPTS, RANKINGS, SCORED, Needs
from .preparation import prepare
from .problems import PROBLEMS, Problem, RowError
from .report import Example, Finding, Report
from .sources import load

__all__ = [
    "NEEDS",
    "PAIRS",
    "PROBLEMS",
    "PROMPTS",
    "RANKINGS",
    "SCORED",
    "Example",
    "Finding",
    "Needs",
    "PairCollator",
    "Problem",
    "Report",
    "RowError",
    "check",
    "hold_out",
    "load",
    "load_mixture",
    "normalise",
    "prepare",
]
