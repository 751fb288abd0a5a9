"""Preference data: loaded, checked, tokenised and joined to batches."""

from .checks import check
from .collate import PairCollator
from .formats import normalise
from .mixture import hold_out, load_mixture
from .preparation import prepare
from .problems import PROBLEMS, Problem, RowError
from .report import Example, Finding, Report
from .sources import load

__all__ = [
    "PROBLEMS",
    "Example",
    "Finding",
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
