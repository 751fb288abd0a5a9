"""Rewards as values: a sequence classifier, a Python function, or a column of the data."""

from .choice import BestAndWorst, Skipped, best_and_worst
from .column import ColumnReward
from .function import FunctionReward
from .make import make_reward
from .model import ModelReward
from .questions import Question, question
from .reward import Reward, RewardError, finite

__all__ = [
    "BestAndWorst",
    "ColumnReward",
    "FunctionReward",
    "ModelReward",
    "Question",
    "Reward",
    "RewardError",
    "Skipped",
    "best_and_worst",
    "finite",
    "make_reward",
    "question",
]
