"""One look of the vision tower at a picture, for several projections of what it saw.

A family's `get_image_features` runs the tower, its projector and what comes before, between and
after. Here it runs on clones: the first one keeps what the projector was given, and for another
projection of the same pictures it runs again with that kept, and with modules that pass on what
they are given in place of the tower's. The model itself is left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .clones import clone, replaced
from .projectors import projector, seer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Forward = Callable[..., Any]


@dataclass(eq=False)
class _Look:
    """What the tower made of some pictures.

    Attributes:
        given: The tensors it was given.
        inputs: For each part of the projector, the arguments of its calls.
        outputs: For each module beside the way to it, what its calls returned.
        used: How many projections have been made of it.
    """

    given: list[Tensor]
    inputs: dict[str, list[Any]] = field(default_factory=dict)
    outputs: dict[str, list[Any]] = field(default_factory=dict)
    used: int = 1


class Eyes:
    """The eyes of one call: readers made by `through` share what the tower sees.

    Args:
        model: A vision-language model, out of any wrapper.
        readers: How many times each picture is looked at; what was seen is forgotten then.

    Raises:
        ValueError: It has no projector that is known.
    """

    def __init__(self, model: PreTrainedModel, readers: int = 2) -> None:
        self.model, self.place = model, seer(model)
        self.seer = model.get_submodule(self.place)
        start = f"{self.place}." if self.place else ""
        self.parts = {path.removeprefix(start): path for path in projector(model)}
        self.readers = readers
        self._looks: list[_Look] = []

    def through(self, projection: Mapping[str, nn.Module] | None) -> Any:
        """Return the model as it reads what its tower sees through another projection.

        Args:
            projection: A module for each path of `projector`; None is the model's own.
        """
        own = self.seer.get_image_features

        @wraps(own)
        def look(*args: Any, **kwargs: Any) -> Any:
            return self._features(projection, args, kwargs)

        vars(look)["eyes"], vars(look)["own"] = self, projection is None
        changed = clone(self.seer, {})
        changed.__dict__["get_image_features"] = look
        return replaced(self.model, {self.place: changed})

    def forget(self) -> None:
        """Let go of what was seen."""
        self._looks.clear()

    def _features(self, projection: Any, args: Any, kwargs: Any) -> Any:
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        look = next((look for look in self._looks if _same(look.given, given)), None)
        parts = {
            path: self.seer.get_submodule(path) if projection is None else projection[name]
            for path, name in self.parts.items()
        }
        if look is None:
            look = _Look(given)
            self._looks.append(look)
            changes = _recording(self.seer, parts, look)
        else:
            look.used += 1
            changes = _replaying(self.seer, parts, look)
        if look.used >= self.readers:
            self._looks.remove(look)
        return replaced(self.seer, changes).get_image_features(*args, **kwargs)


def eyes(model: Any) -> Eyes | None:
    """The eyes of a reader that `through` made; None of any other model."""
    return getattr(_look(model), "eyes", None)


def sees_itself(model: Any) -> bool:
    """Whether a reader sees through the model's own projection."""
    return getattr(_look(model), "own", True)


def _look(model: Any) -> Any:
    for module in (getattr(model, model.base_model_prefix, model), model):
        if (found := vars(module).get("get_image_features")) is not None:
            return found
    return None


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(
        x.device == y.device and torch.equal(x, y) for x, y in zip(first, second, strict=True)
    )


def _recording(
    module: nn.Module, parts: Mapping[str, nn.Module], look: _Look
) -> dict[str, nn.Module]:
    changes: dict[str, nn.Module] = {}
    for path, part in parts.items():
        kept = look.inputs.setdefault(path, [])
        changes[path] = _standing_in(part, _keeping_inputs(part, kept))
    for path, beside in _beside(module, parts):
        kept = look.outputs.setdefault(path, [])
        changes[path] = _standing_in(beside, _keeping_outputs(beside, kept))
    return changes


def _replaying(
    module: nn.Module, parts: Mapping[str, nn.Module], look: _Look
) -> dict[str, nn.Module]:
    changes: dict[str, nn.Module] = {}
    for path, part in parts.items():
        changes[path] = _standing_in(part, _given_again(part, iter(look.inputs[path])))
    for path, beside in _beside(module, parts):
        changes[path] = _standing_in(beside, _returned_again(iter(look.outputs[path])))
        stack, _, last = path.rpartition(".")
        if isinstance(module.get_submodule(stack), nn.ModuleList):
            layers = {
                f"{stack}.{number}": module.get_submodule(f"{stack}.{number}")
                for number in range(int(last))
            }
            changes |= {name: _standing_in(layer, _passing_on) for name, layer in layers.items()}
    return changes


def _beside(module: nn.Module, parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """What stands beside the ways to the projector; of a stack of layers the last."""
    ways = {path.rpartition(".")[0] for path in parts}
    ways |= {".".join(way.split(".")[:end]) for way in ways for end in range(way.count(".") + 1)}
    for way in sorted({"", *ways}):
        for name, child in module.get_submodule(way).named_children():
            path = f"{way}.{name}" if way else name
            if path in ways or path in parts:
                continue
            if isinstance(child, nn.ModuleList):
                yield f"{path}.{len(child) - 1}", child[-1]
            else:
                yield path, child


def _standing_in(module: nn.Module, forward: Forward) -> nn.Module:
    """A module that looks like another one, without its hooks, and does something else."""
    made: nn.Module = clone(module, {})
    hooks = [name for name in vars(module) if name.startswith("_") and name.endswith("hooks")]
    made.__dict__.update({name: type(vars(module)[name])() for name in hooks})
    made.__dict__["forward"] = forward
    return made


def _keeping_inputs(module: nn.Module, kept: list[Any]) -> Forward:
    def forward(*args: Any, **kwargs: Any) -> Any:
        kept.append((args, kwargs))
        return module(*args, **kwargs)

    return forward


def _keeping_outputs(module: nn.Module, kept: list[Any]) -> Forward:
    def forward(*args: Any, **kwargs: Any) -> Any:
        output = module(*args, **kwargs)
        kept.append(output)
        # Families write their features into what the tower returned.
        return copy.copy(output)

    return forward


def _given_again(module: nn.Module, kept: Iterator[Any]) -> Forward:
    def forward(*_: Any, **__: Any) -> Any:
        args, kwargs = next(kept)
        return module(*args, **kwargs)

    return forward


def _returned_again(kept: Iterator[Any]) -> Forward:
    return lambda *_, **__: copy.copy(next(kept))


def _passing_on(*args: Any, **kwargs: Any) -> Any:
    return next(iter((*args, *kwargs.values())))
