"""Preference losses: pure functions of per-token log-probs, one paper a file."""

from .copg import CoPG
from .cpl import CPL, Cloning
from .dpo import DPO
from .hinge import Hinge
from .hypo import HyPO
from .ipo import IPO
from .loss import Loss, Metrics
from .table import LOSSES

__all__ = ["CPL", "DPO", "IPO", "LOSSES", "Cloning", "CoPG", "Hinge", "HyPO", "Loss", "Metrics"]
