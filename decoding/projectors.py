"""Where a model's image projector is: what turns what the vision tower saw into tokens to read.

It is found by its place in the model. In Qwen-VL it is the merger at the end of the tower, in
Qwen3-VL also those that hand on earlier layers (DeepStack); in BLIP-2 and InstructBLIP what comes
after the Q-Former.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .clones import bare

# Names of one line are one projector.
NAMES = (
    ("multi_modal_projector",),
    ("connector",),
    ("language_projection",),
    ("merger", "deepstack_merger_list"),
)


def seer(model: Any) -> str:
    """The path of the module that turns pictures into features.

    Raises:
        ValueError: There is none: the model reads text alone.
    """
    prefix = model.base_model_prefix
    for path in (prefix, ""):
        found = getattr(model, path, None) if path else model
        if isinstance(found, nn.Module) and hasattr(found, "get_image_features"):
            return path
    raise ValueError(
        f"projections are of models that see, but {type(model).__name__} reads text alone. Take a "
        "vision-language model."
    )


def projector(model: Any) -> list[str]:
    """Find the modules that are the image projector.

    Args:
        model: A vision-language model, out of any wrapper.

    Returns:
        The paths of the modules that are called, in the model's order.

    Raises:
        ValueError: The model reads text alone, or has no projector in a place that is known, or
            several.
    """
    seer(model)
    leaves = {name: line for line in NAMES for name in line}
    found = [
        (path, line)
        for path, _ in model.named_modules()
        if (line := leaves.get(path.rpartition(".")[2]))
    ]
    # What is inside of another one is a part of it.
    outer = [one for one in found if not any(one[0].startswith(f"{path}.") for path, _ in found)]
    places = {(path.rpartition(".")[0], line) for path, line in outer}
    if len(places) != 1:
        known = ", ".join(leaves)
        told = f"has several: {', '.join(path for path, _ in outer)}" if outer else "has none"
        raise ValueError(
            f"a projector is the one module called {known}, but {type(model).__name__} {told}. "
            "Take a model of a family in docs/vision.md."
        )
    return [part for path, _ in outer for part in _called(model, path)]


def tensors(model: Any) -> dict[str, Tensor]:
    """The projector's tensors, without adapters, by their names in the model.

    Raises:
        ValueError: See `projector`.
    """
    return {
        f"{path}.{name}": value
        for path in projector(model)
        for name, value in bare(model.get_submodule(path)).state_dict().items()
    }


def modules(model: Any, values: Mapping[str, Tensor] | None = None) -> dict[str, nn.Module]:
    """Make a projector of the model's kind, which shares nothing with the model's own.

    Args:
        model: Has the projector whose structure, device and dtype are taken.
        values: The tensors it computes with; None copies the model's.

    Returns:
        Path in the model -> module, without adapters, frozen.

    Raises:
        ValueError: The model's own projector is offloaded, or see `projector`.
    """
    made = {}
    for path in projector(model):
        own = bare(model.get_submodule(path))
        if any(value.is_meta for value in own.state_dict().values()):
            raise ValueError(
                f"the projector {path} is offloaded, so another can't stand in for it. Keep it on "
                "a device (device_map)."
            )
        made[path] = _remade(own, path, values).requires_grad_(False)
    return made


def _remade(own: nn.Module, path: str, values: Mapping[str, Tensor] | None) -> nn.Module:
    """A deep copy whose tensors are the given ones, so that the model's needn't be copied."""
    state = own.state_dict(keep_vars=True)
    new = {
        id(old): (old if values is None else values[f"{path}.{name}"]).detach().to(old, copy=True)
        for name, old in state.items()
    }
    memo: dict[int, Any] = {
        id(old): nn.Parameter(new[id(old)]) if isinstance(old, nn.Parameter) else new[id(old)]
        for old in state.values()
    }
    return copy.deepcopy(own, memo)


def _called(model: nn.Module, path: str) -> Sequence[str]:
    module = model.get_submodule(path)
    if isinstance(module, nn.ModuleList):
        return [f"{path}.{number}" for number in range(len(module))]
    return [path]
