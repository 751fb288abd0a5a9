"""What PEFT adapters do to a model: which tensors are theirs, and how to look past them.

Nothing here merges an adapter into the weights or takes it out again: in half precision that moves
the base weights a little each time, and they are the reference.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from .support import language_model, learns_prompt

REFERENCE = "reference"
# Ways to start LoRA that take out of the base weights what they put into the adapter.
MUTATING = ("pissa", "corda", "olora", "loftq", "lora_ga")


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what a model computes with when its adapters are off.

    Returns:
        Name -> tensor, parameters and saved buffers, under the names that they have without PEFT.
    """
    inner = language_model(model)
    names = _wrapped(inner)
    bare = {_bare_name(name, names): value for name, value in inner.state_dict().items()}
    return {
        name: value
        for name, value in bare.items()
        if name is not None and isinstance(value, Tensor)
    }


def mutates_base(config: PeftConfig) -> bool:
    """Whether making an adapter of this config changes the base weights."""
    start = getattr(config, "init_lora_weights", None)
    return isinstance(start, str) and start.lower().startswith(MUTATING)


def refuse_merged(model: Any) -> None:
    """Refuse a model whose adapter isn't beside the weights.

    Raises:
        ValueError: An adapter is merged into them.
    """
    if any(isinstance(module, BaseTunerLayer) and module.merged for module in model.modules()):
        raise ValueError(
            "training needs the adapter beside the weights, but it is merged into them. Load the "
            "model and its adapter again: taking it out would leave rounding behind."
        )


def refuse_trained_base(model: Any) -> None:
    """Refuse a PEFT model whose base weights move too, so that nothing can be held against them.

    Raises:
        ValueError: Names what is trained outside the adapters.
    """
    inner = language_model(model)
    names = _wrapped(inner)
    trained = [
        name
        for name, parameter in inner.named_parameters()
        if parameter.requires_grad and _bare_name(name, names) is not None
    ]
    if trained:
        raise ValueError(
            "a PEFT policy's reference shares its base weights, so they must stay as they are, but "
            f"{', '.join(trained[:3])} and {len(trained)} in all are trained outside the adapter "
            "(LoRA's bias option does that). Freeze them, or name a model's folder as reference."
        )


def refuse_lost_base(model: Any) -> None:
    """Refuse a PEFT model that isn't its base model again once its adapters are off.

    Raises:
        ValueError: Says why the base is lost, and what else to compare with.
    """
    refuse_trained_base(model)
    config = model.active_peft_config
    if mutates_base(config):
        raise ValueError(
            f"init_lora_weights={config.init_lora_weights!r} took a part of the base weights into "
            "the adapter, so the model without adapter isn't the base. Set reference: adapter, "
            "which is the model as it is now."
        )
    wrappers = (AuxiliaryTrainingWrapper, BaseTunerLayer)
    if learns_prompt(model) and any(isinstance(module, wrappers) for module in model.modules()):
        raise ValueError(
            f"{config.peft_type.value} with modules_to_save can't be switched off: PEFT would keep "
            "those modules on. Leave modules_to_save out, or name a model's folder as reference."
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout, checkpointing and gradients off; modes and gradient flags come back after."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def switched_off(model: Any) -> Iterator[None]:
    """Evaluate a PEFT model without its adapters."""
    own = {"forward", "prepare_inputs_for_generation"} & vars(model).keys()
    try:
        with evaluating(model), model.disable_adapter():
            yield
    finally:
        # For prompt learning PEFT leaves the class's methods behind as the object's own.
        for name in {"forward", "prepare_inputs_for_generation"} - own:
            vars(model).pop(name, None)


@contextmanager
def wearing(model: Any, adapter: str) -> Iterator[None]:
    """Evaluate a PEFT model with another adapter than its active one."""
    active = model.active_adapter
    with evaluating(model):
        model.set_adapter(adapter, inference_mode=True)
        try:
            yield
        finally:
            model.set_adapter(active)


def copy_adapter(model: Any) -> None:
    """Add a frozen copy of the active adapter, called "reference".

    Raises:
        ValueError: There is no single active adapter of weights, or already one of that name.
    """
    active = model.active_adapters
    if len(active) != 1 or learns_prompt(model) or REFERENCE in model.peft_config:
        raise ValueError(
            "reference: adapter copies the one active adapter of weights under the name "
            f"{REFERENCE!r}, got {model.peft_type.value} with {', '.join(active) or 'none'} active "
            f"of {', '.join(model.peft_config)}. Activate one, or set another reference."
        )
    weights = get_peft_model_state_dict(model, adapter_name=active[0], save_embedding_layers=False)
    config = copy.deepcopy(model.peft_config[active[0]])
    config.inference_mode = True
    if mutates_base(config):
        # Else PEFT would take the same part out of the base weights once more.
        config.init_lora_weights = True
    wide = any(value.dtype == torch.float32 for value in weights.values())
    with _undisturbed(model):
        model.add_adapter(REFERENCE, config, autocast_adapter_dtype=wide)
        set_peft_model_state_dict(model, weights, adapter_name=REFERENCE)


def load_reference_adapter(model: Any, path: str) -> None:
    """Load an adapter's folder beside the active adapter, frozen, called "reference".

    Raises:
        ValueError: The folder's weights don't fill the adapter that its config describes.
    """
    with _undisturbed(model):
        loaded = model.load_adapter(path, REFERENCE, is_trainable=False)
    if loaded.missing_keys or loaded.unexpected_keys:
        odd = [*loaded.missing_keys, *loaded.unexpected_keys]
        raise ValueError(
            f"the adapter in {path} doesn't fit the policy's base model: {len(odd)} weights don't "
            f"match, such as {odd[0]}. Take an adapter of the same base."
        )


def with_adapter(model: nn.Module, path: str) -> PeftModel:
    """Put a saved adapter, frozen, on a model that nobody else uses.

    Raises:
        ValueError: The adapter's folder doesn't hold all weights that this model asks of it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, path)
        except UserWarning as warning:
            raise ValueError(
                f"the adapter in {path} doesn't fit {type(model).__name__}: {warning} Take the "
                "base model that it was trained on."
            ) from warning


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Add an adapter without a trace: modes, gradient flags and random numbers come back after."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), evaluating(model):
        yield


def _wrapped(model: nn.Module) -> dict[str, str]:
    """The path of each module that PEFT put around another -> what that other is called in it."""
    inside = {path: _inside(module) for path, module in model.named_modules()}
    return {path: name for path, name in inside.items() if name}


def _inside(module: nn.Module) -> str | None:
    if isinstance(module, BaseTunerLayer):
        return "base_layer"
    if isinstance(module, AuxiliaryTrainingWrapper):
        # Trainable tokens keep the module inside an adapter of their own.
        return "original_module" if module._modules["original_module"] else "token_adapter"
    return None


def _bare_name(name: str, wrapped: Mapping[str, str]) -> str | None:
    """A tensor's name without PEFT; None if it belongs to an adapter."""
    seen: list[str] = []
    bare: list[str] = []
    for part in name.split("."):
        inside = wrapped.get(".".join(seen))
        if inside is None:
            bare.append(part)
        elif part != inside:
            return None
        seen.append(part)
    return ".".join(bare)
