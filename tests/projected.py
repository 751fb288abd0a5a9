"""Random projections of tiny models, saved in folders; and copies of the models that have them."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from contralign.decoding.projections import Base, Projections
from contralign.decoding.projectors import tensors

SEEDS = {"negative": 1, "positive": 2}
VARIANTS = ("neg_only", "pos_neg")


@cache
def drawn(model: Any, side: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(SEEDS[side])
    return {
        name: value + value.abs().mean() * torch.randn(value.shape, generator=generator)
        for name, value in tensors(model).items()
    }


@cache
def folder(model: Any, variant: str) -> Path:
    """Where projections of a variant are saved."""
    positive = drawn(model, "positive") if variant == "pos_neg" else None
    where = Path(tempfile.mkdtemp(prefix="projections-"))
    Projections(Base.of(model), drawn(model, "negative"), positive).save(where)
    return where


def placed(method: str, model: Any) -> str:
    """The method's name with the folder in the place of the variant."""
    for variant in VARIANTS:
        if f"path={variant}" in method:
            method = method.replace(f"path={variant}", f"path={folder(model, variant)}")
    return method


@cache
def swapped(model: Any, side: str) -> Any:
    """A copy of a model with other weights in its projector."""
    other = copy.deepcopy(model)
    state = other.state_dict()
    for name, value in drawn(model, side).items():
        state[name].copy_(value)
    return other


def through(model: Any, side: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs that the copy reads."""
    return {**inputs, "model": swapped(model, side)}
