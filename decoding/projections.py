"""Saved projections: one small safetensors file, and a config that says what they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import projectors

WEIGHTS, CONFIG = "projections.safetensors", "config.json"
METHOD = "dcd"
VARIANTS = ("neg_only", "pos_neg")
PROBED = 4
# Half precision keeps 8 bits.
TOLERANCE = 2**-7


@dataclass(frozen=True)
class Base:
    """What a projection was made from, to tell whether it fits.

    Attributes:
        name: Hub id or folder of the model.
        shapes: Of the projector's tensors, by their names in the model.
        probe: The first values of each.
    """

    name: str
    shapes: Mapping[str, list[int]]
    probe: Mapping[str, list[float]]

    @staticmethod
    def of(model: Any) -> Base:
        """Describe a model's own projector.

        Raises:
            ValueError: It has none that is known.
        """
        own = projectors.tensors(model)
        return Base(
            str(model.name_or_path or ""),
            {name: list(value.shape) for name, value in own.items()},
            {name: _first(value) for name, value in own.items()},
        )


@dataclass(frozen=True, eq=False)
class Projections:
    """The trained projections of one model.

    Attributes:
        base: What they were made from.
        negative: The tensors of the one trained on rejected answers, by their names in the model.
        positive: Of the one trained on chosen answers; None is the model's own.
        told: How they were trained: data, steps, ...
    """

    base: Base
    negative: Mapping[str, Tensor]
    positive: Mapping[str, Tensor] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """`neg_only` or `pos_neg`."""
        return VARIANTS[self.positive is not None]

    @cached_property
    def digest(self) -> str:
        """Of every tensor."""
        made = blake2b(digest_size=16)
        for side in (self.negative, self.positive or {}):
            for name in sorted(side):
                made.update(name.encode() + side[name].float().numpy().tobytes())
        return made.hexdigest()

    def save(self, folder: Path) -> None:
        """Write them into a folder that exists."""
        sides = {"negative": self.negative, "positive": self.positive or {}}
        tensors = {
            f"{side}.{name}": value.detach().cpu().contiguous()
            for side, values in sides.items()
            for name, value in values.items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = {
            "method": METHOD,
            "base_model": self.base.name,
            "variant": self.variant,
            **self.told,
            "shapes": self.base.shapes,
            "probe": self.base.probe,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def check(self, model: Any) -> None:
        """Refuse a model that they weren't made from.

        Shapes must be the same, and name or values too: an aligned model has another name but the
        same projector, and a model in memory may have no name.

        Raises:
            ValueError: It is another model, or has no projector that is known.
        """
        own = Base.of(model)
        odd = [
            f"{name} has the shape {own.shapes.get(name)}, saved is {self.base.shapes.get(name)}"
            for name in {**own.shapes, **self.base.shapes}
            if own.shapes.get(name) != self.base.shapes.get(name)
        ]
        if not odd and (own.name == self.base.name or _alike(own.probe, self.base.probe)):
            return
        told = odd[0] if odd else "its projector has other values"
        raise ValueError(
            f"these projections are of {self.base.name or 'a model made in memory'}, got "
            f"{own.name or type(model).__name__}: {told}. Take the model that they were trained "
            "on, or train projections for this one (contralign train dcd)."
        )


def load(folder: str | Path) -> Projections:
    """Read saved projections; those of an unchanged folder are read once.

    Raises:
        ValueError: The folder holds none, or they are broken.
    """
    where = Path(folder).expanduser()
    files = [where / WEIGHTS, where / CONFIG]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"projections are a folder that `contralign train dcd` wrote, but {folder} holds no "
            f"{missing[0]}. Check the path."
        )
    return _read(where, tuple(file.stat().st_mtime_ns for file in files))


@lru_cache(maxsize=4)
def _read(folder: Path, stamp: tuple[int, ...]) -> Projections:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        base = Base(config.pop("base_model"), config.pop("shapes"), config.pop("probe"))
        named = config.pop("method"), config.pop("variant")
    except (SafetensorError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no projections: {error}. Train them again.") from error
    sides = {
        side: {
            name.removeprefix(f"{side}."): value
            for name, value in tensors.items()
            if name.startswith(f"{side}.")
        }
        for side in ("negative", "positive")
    }
    read = Projections(base, sides["negative"], sides["positive"] or None, config)
    _check_whole(folder, read, named)
    return read


def _check_whole(folder: Path, read: Projections, named: tuple[str, str]) -> None:
    sides = [read.negative, *([] if read.positive is None else [read.positive])]
    shapes = [{name: list(value.shape) for name, value in side.items()} for side in sides]
    if named != (METHOD, read.variant) or any(shape != read.base.shapes for shape in shapes):
        raise ValueError(
            f"{folder} holds no whole projections: {WEIGHTS} and {CONFIG} ({named[0]}, {named[1]}) "
            "don't go together. Train them again."
        )


def _first(value: Tensor) -> list[float]:
    return value.detach().flatten()[:PROBED].float().cpu().tolist()


def _alike(first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> bool:
    return all(
        torch.allclose(torch.tensor(values), torch.tensor(second[name]), rtol=TOLERANCE, atol=1e-6)
        for name, values in first.items()
    )
