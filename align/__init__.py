"""Preference training: losses, the log-prob engine, references and the trainers."""

from .batch import Batch
from .config import DPOConfig
from .data import Report, check, load, load_mixture, prepare
from .dcd_config import DCDConfig
from .dcd_trainer import DCDTrainer
from .dpo_trainer import DPOTrainer
from .engine import Engine, TokenLogps
from .losses import DPO, IPO, LOSSES, Hinge, Loss
from .merge import merge
from .references import Reference, make_reference
from .stop import TrainingError

__all__ = [
    "DPO",
    "IPO",
    "LOSSES",
    "Batch",
    "DCDConfig",
    "DCDTrainer",
    "DPOConfig",
    "DPOTrainer",
    "Engine",
    "Hinge",
    "Loss",
    "Reference",
    "Report",
    "TokenLogps",
    "TrainingError",
    "check",
    "load",
    "load_mixture",
    "make_reference",
    "merge",
    "prepare",
]
