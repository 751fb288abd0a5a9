"""Models that share all weights with another, some of their modules replaced; it stays as it is.

Only the modules on the way to a replaced one are cloned, so nothing is switched on or off, and
another thread that uses the original notices nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MethodType
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn


def clone(module: nn.Module, children: Mapping[str, nn.Module | None]) -> Any:
    """Return an object of the same class and attributes, with other children."""
    made = object.__new__(type(module))
    made.__dict__.update(module.__dict__)
    made.__dict__["_modules"] = {**module._modules, **children}
    made.__dict__["_compiled_call_impl"] = None  # of the original module
    if "_hf_hook" in module.__dict__:
        # accelerate binds the hooked forward to the original module.
        hooked: Any = module.__dict__["forward"]
        made.__dict__["_old_forward"] = MethodType(type(module).forward, made)
        made.__dict__["forward"] = functools.partial(hooked.func, made)
    return made


def replaced(module: nn.Module, changes: Mapping[str, nn.Module]) -> Any:
    """Return a clone with other modules at some paths.

    Args:
        module: What is cloned.
        changes: Path in it -> what stands there; the empty path is the module itself.
    """
    if not changes or "" in changes:
        return changes.get("", module)
    within: dict[str, dict[str, nn.Module]] = {}
    for path, change in changes.items():
        head, _, rest = path.partition(".")
        within.setdefault(head, {})[rest] = change
    children = {name: replaced(module.get_submodule(name), x) for name, x in within.items()}
    return clone(module, children)


def bare(module: Any) -> Any:
    """Return a module as it is under PEFT's adapters: itself, if it has none."""
    if isinstance(module, BaseTunerLayer):
        return module.get_base_layer()
    if isinstance(module, ModulesToSaveWrapper):
        return module.original_module
    children = {name: bare(child) for name, child in module._modules.items() if child is not None}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    return clone(module, children)
