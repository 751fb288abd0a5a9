"""Rewards as values: a sequence classifier, a Python function, or a column of the data."""

from .choice import BestAndWorst, Skipped, best_and_worst
from .column import ColumnReward
from .function import FunctionReward, PlainReward
from .make import as_reward, called, make_reward
from .model import ModelReward
from .questions import Question, question
from .reward import Reward, RewardError, finite

__all__ = [
    "BestAndWorst",
    "ColumnReward",
    "FunctionReward",
    "ModelReward",
    "PlainReward",
    "Question",
    "Reward",
    "RewardError",
    "Skipped",
    "as_reward",
    "best_and_worst",
    "called",
    "finite",
    "make_reward",
    "question",
]
