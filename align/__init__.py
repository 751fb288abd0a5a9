"""Preference training: losses, the log-prob engine, references and the trainers."""

from .batch import Batch
from .config import DPOConfig
from .copg_config import CoPGConfig
from .copg_trainer import CoPGTrainer
from .cpl_config import CPLConfig
from .cpl_trainer import CPLTrainer
from .data import Report, check, load, load_mixture, prepare
from .dpo_trainer import DPOTrainer
from .engine import Engine, TokenLogps
from .losses import CPL, DPO, IPO, LOSSES, CoPG, Hinge, Loss
from .merge import merge
from .references import Reference, make_reference
from .stop import TrainingError

__all__ = [
    "CPL",
    "DPO",
    "IPO",
    "LOSSES",
    "Batch",
    "CPLConfig",
    "CPLTrainer",
    "CoPG",
    "CoPGConfig",
    "CoPGTrainer",
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
