"""MPO: pairs split by a reward, DPO on the easy ones, online RL on the difficult ones."""

from .config import MPOConfig, OnlineConfig
from .split import Rule, Split, gaps, split
from .trainer import MPOTrainer

__all__ = ["MPOConfig", "MPOTrainer", "OnlineConfig", "Rule", "Split", "gaps", "split"]
