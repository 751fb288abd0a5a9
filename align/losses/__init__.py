"""Preference losses: pure functions of per-token log-probs, one paper a file."""

from .dpo import DPO
from .hinge import Hinge
from .ipo import IPO
from .loss import Loss, Metrics
from .table import LOSSES

__all__ = ["DPO", "IPO", "LOSSES", "Hinge", "Loss", "Metrics"]
