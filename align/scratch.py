"""Samples come out of scratch weights: the adapter merged into a copy, and the policy as it was.

Nothing is merged in place. While `merged` lasts, a plain layer whose weight is base + delta stands
where each adapted one does, so a token costs one matmul a layer instead of three; the base's own
tensors are read and never written. In half precision base + delta is summed in float32 and rounded
once: what is sampled is then the rounded policy, as after any merge.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners import lora
from peft.tuners.lora.variants import DoraEmbeddingVariant, DoraLinearVariant
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from contralign.decoding.checks import whole

from .saving import STATE

FILE = "samples_policy.safetensors"
ADAPTED = (lora.Linear, lora.Embedding)
PLAIN = (nn.Linear, nn.Embedding, Conv1D)
VARIANTS = (DoraLinearVariant, DoraEmbeddingVariant)
WIDE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Let each layer under LoRA, rsLoRA or DoRA be a plain one for a while.

    Layers of other adapters, and those on quantized or split weights, stay as they are: the model
    computes the same, only slower.

    Args:
        model: With its adapters on; nothing may be trained meanwhile.
    """
    layers = {layer: plain(layer) for layer in model.modules() if can_merge(layer)}
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child in layers
    ]
    for parent, name, child in places:
        parent._modules[name] = layers[child]
    try:
        yield
    finally:
        for parent, name, child in places:
            parent._modules[name] = child


def can_merge(layer: Any) -> bool:
    """Whether a layer under an adapter can be a plain one."""
    if type(layer) not in ADAPTED or layer.disable_adapters or layer.merged:
        return False
    base, names = layer.get_base_layer(), layer.active_adapters
    variants = [layer.lora_variant[name] for name in names if name in layer.lora_variant]
    # Accelerate's hooks are methods that know the layer they were put on.
    if not isinstance(base, PLAIN) or "forward" in vars(base):
        return False
    biased = any(layer.lora_bias.get(name) for name in names)
    return (
        all(isinstance(one, VARIANTS) for one in variants)
        and not (biased and getattr(base, "bias", None) is None)
        and type(base.weight) is nn.Parameter
        and base.weight.dtype in WIDE
    )


@torch.no_grad()
def plain(layer: Any) -> nn.Module:
    """Copy the layer below an adapter; PEFT itself merges the adapter into the copy."""
    base = copy.copy(layer.get_base_layer())
    own: dict[str, Any] = base._parameters
    dtypes = {name: x.dtype for name, x in own.items() if x is not None}
    wide = {name: torch.promote_types(dtype, torch.float32) for name, dtype in dtypes.items()}
    copies = {name: _frozen(own[name].detach().to(wide[name], copy=True)) for name in wide}
    vars(base)["_parameters"] = {**own, **copies}
    twin = copy.copy(layer)
    vars(twin).update(
        _modules={**layer._modules, "base_layer": base}, merged_adapters=[], _caches={}
    )
    # The trainer's autocast would sum in 16 bits.
    with torch.autocast(layer.get_base_layer().weight.device.type, enabled=False):
        twin.merge()
    for name, dtype in dtypes.items():
        base._parameters[name].data = base._parameters[name].data.to(dtype)
    return base


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


class Lagged:
    """The policy that samples are drawn from: renewed every so many updates, and as it was between.

    Only what is trained is copied.

    Args:
        model: The policy, not wrapped, its weights whole.
        every: Updates between two times; at 1 samples are of the policy itself.

    Attributes:
        since: The update at which the copy was made; None where there is none.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        whole("refresh_every", every, 1)
        self._model, self._every = model, every
        self._weights: dict[str, Tensor] = {}
        self.since: int | None = None

    @contextmanager
    def at(self, update: int) -> Iterator[int]:
        """Let the model be the one to draw samples from.

        Args:
            update: The number of the next one, from 0.

        Yields:
            How many updates ago it was the policy.

        Raises:
            RuntimeError: Its weights are lost: neither drawn with nor loaded.
        """
        if self._every == 1:
            yield 0
            return
        self._renew(update)
        assert self.since is not None
        trained = self._trained()
        own = {name: x.data for name, x in trained.items()}
        try:
            for name, parameter in trained.items():
                parameter.data = self._weights[name]
            yield update - self.since
        finally:
            for name, parameter in trained.items():
                parameter.data = own[name]

    def save(self, folder: Path) -> None:
        """Write the copy into a checkpoint's folder, for a run that goes on between two times."""
        if self.since is None:
            return
        temporary = folder / f".{FILE}.{os.getpid()}"
        kept = {name: x.cpu().contiguous() for name, x in self._weights.items()}
        save_file(kept, temporary, metadata={"update": str(self.since)})
        os.replace(temporary, folder / FILE)

    def load(self, folder: Path) -> None:
        """Go on with the copy of a checkpoint.

        Args:
            folder: The checkpoint.

        Raises:
            OSError: The checkpoint has none, but must.
            ValueError: It is another model's.
        """
        update = json.loads((folder / STATE).read_text(encoding="utf-8"))["global_step"]
        due = update - update % self._every
        if due == update:
            return
        if not (folder / FILE).is_file():
            raise OSError(
                f"{folder} holds no {FILE}, without which samples can't go on {update - due} "
                f"updates behind. Resume from a checkpoint after a multiple of {self._every}."
            )
        saved, own = load_file(folder / FILE), self._trained()
        if {k: x.shape for k, x in saved.items()} != {k: x.shape for k, x in own.items()}:
            raise ValueError(f"{folder / FILE} is of another model. Resume with the run's own.")
        self._weights = {name: x.to(own[name]) for name, x in saved.items()}
        self.since = due

    def _renew(self, update: int) -> None:
        due = update - update % self._every
        if self.since == due:
            return
        if due != update:
            raise RuntimeError(f"update {update} samples from {due}, whose weights are lost.")
        self._weights = {name: x.detach().clone() for name, x in self._trained().items()}
        self.since = due

    def _trained(self) -> dict[str, nn.Parameter]:
        return {n: x for n, x in self._model.named_parameters() if x.requires_grad}
