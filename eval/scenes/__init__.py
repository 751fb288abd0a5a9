"""Scenes: a small world made by code, with exact truth, in which hallucination can be studied."""

from .card import shipped
from .mentions import mentions, recall_reward
from .pictures import Optics
from .preferences import dataset, own_pairs, pairs
from .world import Scene, Thing, World

__all__ = [
    "Optics",
    "Scene",
    "Thing",
    "World",
    "dataset",
    "mentions",
    "own_pairs",
    "pairs",
    "recall_reward",
    "shipped",
]
