"""Preference training: losses, the log-prob engine, references, rewards and the trainers."""

from .batch import Batch
from .config import DPOConfig
from .copg_config import CoPGConfig
from .copg_trainer import CoPGTrainer
from .cpl_config import CPLConfig
from .cpl_trainer import CPLTrainer
from .data import Report, check, load, load_mixture, prepare
from .dcd_config import DCDConfig
from .dcd_trainer import DCDTrainer
from .dpo_trainer import DPOTrainer
from .engine import Engine, TokenLogps
from .hypo_config import HyPOConfig
from .hypo_trainer import HyPOTrainer
from .losses import CPL, DPO, IPO, LOSSES, CoPG, Hinge, HyPO, Loss
from .merge import merge
from .mpo import MPOConfig, MPOTrainer
from .references import Reference, make_reference
from .reward_trainer import RewardConfig, RewardTrainer
from .rewards import ColumnReward, FunctionReward, ModelReward, Reward, make_reward
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
    "ColumnReward",
    "DCDConfig",
    "DCDTrainer",
    "DPOConfig",
    "DPOTrainer",
    "Engine",
    "FunctionReward",
    "Hinge",
    "HyPO",
    "HyPOConfig",
    "HyPOTrainer",
    "Loss",
    "MPOConfig",
    "MPOTrainer",
    "ModelReward",
    "Reference",
    "Report",
    "Reward",
    "RewardConfig",
    "RewardTrainer",
    "TokenLogps",
    "TrainingError",
    "check",
    "load",
    "load_mixture",
    "make_reference",
    "make_reward",
    "merge",
    "prepare",
]
