"""What a policy is compared with: an explicit choice, made before training and checked before work.

base: the policy's own base. With PEFT its adapters are switched off for the forward; with full
fine-tuning it is a frozen copy of the weights in memory, never a second reading of some path.
adapter: a frozen copy of the adapter that training starts from. cached: base, kept on disk. Else a
model's or adapter's folder or hub id, or a model. none: a reference-free loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .adapters import (
    REFERENCE,
    copy_adapter,
    evaluating,
    refuse_lost_base,
    refuse_merged,
    refuse_trained_base,
    switched_off,
    wearing,
)
from .batch import Batch
from .engine import Engine
from .reference_cache import CachedReference
from .reference_models import load_reference, refuse_other_vocabulary
from .support import language_model

KINDS = ("base", "adapter", "cached", "none")


@runtime_checkable
class Reference(Protocol):
    """The log-probs that a loss compares the policy's with."""

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None
    ) -> Float[Tensor, "prompts k tokens"]:
        """Score a batch.

        Args:
            batch: Prompts with their completions.
            through: The policy in a wrapper whose hooks must run (FSDP, DeepSpeed); what has
                weights of its own doesn't read it.

        Returns:
            Nats per token, without gradient, float32, zero on the padding.
        """
        ...

    def place(self, prepare: Callable[[nn.Module], nn.Module]) -> None:
        """Let a trainer move and wrap the weights that only the reference holds, if there are any.

        Args:
            prepare: From a frozen model to the same on its device, wrapped if it must be; such as
                accelerate's `prepare_model(model, evaluation_mode=True)`.
        """
        ...


@dataclass
class SharedReference:
    """The policy's own modules, seen without its adapters or with another one.

    Attributes:
        engine: The policy's.
        adapter: Which adapter is on instead of the policy's; None has all off.
        autocast: What the trainer autocasts to, or None.
    """

    engine: Engine
    adapter: str | None = None
    autocast: torch.dtype | None = None

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None
    ) -> Float[Tensor, "prompts k tokens"]:
        with self._view(), _autocast(self.engine.model, self.autocast):
            return self.engine(batch, through=through).logps

    def place(self, prepare: Callable[[nn.Module], nn.Module]) -> None:
        """Nothing to place: the weights are the policy's."""

    def _view(self) -> AbstractContextManager[None]:
        model = self.engine.model
        if self.adapter is not None:
            return wearing(model, self.adapter)
        return switched_off(model) if isinstance(model, PeftModel) else evaluating(model)


@dataclass
class FrozenReference:
    """A model of its own, frozen.

    Attributes:
        engine: The reference's.
        autocast: What the trainer autocasts to, or None.
    """

    engine: Engine
    autocast: torch.dtype | None = None
    _wrapper: nn.Module | None = field(default=None, init=False)

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None
    ) -> Float[Tensor, "prompts k tokens"]:
        with torch.no_grad(), _autocast(self.engine.model, self.autocast):
            return self.engine(batch, through=self._wrapper).logps

    def place(self, prepare: Callable[[nn.Module], nn.Module]) -> None:
        self._wrapper = prepare(self.engine.model)


def make_reference(
    kind: str | nn.Module,
    engine: Engine,
    *,
    tokenizer: Any = None,
    autocast: torch.dtype | None = None,
    cache: Path | None = None,
    load: Mapping[str, Any] | None = None,
) -> Reference | None:
    """Make the reference that a name stands for, before the first update of the policy.

    Args:
        kind: base, adapter, cached, none, a model's or adapter's folder or hub id, or a model.
        engine: The policy's engine, its model not yet wrapped.
        tokenizer: The policy's tokenizer or processor, to hold the other model's against.
        autocast: What training autocasts to; the reference must be computed like the policy.
        cache: The folder of `cached`; None is `CONTRALIGN_CACHE`, else `~/.cache/contralign`.
        load: Options of `from_pretrained` that the policy was loaded with, for a reference that is
            loaded too; the revision isn't passed on.

    Returns:
        The reference; None for none.

    Raises:
        OSError: A path can't be read.
        ValueError: This policy can't be compared with that.
    """
    if kind == "none":
        return None
    _refuse_hidden_adapters(engine.model)
    if kind == "cached":
        return _cached(engine, autocast, cache)
    other = _other(kind, engine.model, tokenizer, load or {})
    if isinstance(other, nn.Module):
        return _frozen(other, engine, autocast)
    return SharedReference(engine, other, autocast)


def _other(
    kind: str | nn.Module, policy: nn.Module, tokenizer: Any, load: Mapping[str, Any]
) -> nn.Module | str | None:
    """The model to hold the policy against; or the adapter that does on it; None is without."""
    if isinstance(kind, nn.Module):
        _refuse_shared(kind, policy)
        refuse_other_vocabulary(kind.config, policy, "the reference model")
        return kind
    if kind == "base" and isinstance(policy, PeftModel):
        refuse_lost_base(policy)
        return None
    if kind == "base":
        return _copied(policy)
    if kind == "adapter":
        _add_copy(policy)
        return REFERENCE
    return load_reference(kind, policy, tokenizer, load) or REFERENCE


def _cached(engine: Engine, autocast: torch.dtype | None, cache: Path | None) -> CachedReference:
    if engine.temperature != 1:
        raise ValueError(
            "the cache holds log-probs at temperature 1, got an engine with temperature "
            f"{engine.temperature}. Set reference: base."
        )
    lazy = isinstance(engine.model, PeftModel)
    if lazy:
        refuse_lost_base(engine.model)
    # Without adapters the policy is its own base, until the first update.
    base = SharedReference(engine, autocast=autocast)
    return CachedReference(base, engine.model, cache, autocast=autocast, lazy=lazy)


def _frozen(model: nn.Module, engine: Engine, autocast: torch.dtype | None) -> FrozenReference:
    model.requires_grad_(False).eval()
    same = type(language_model(model)) is type(language_model(engine.model))
    path = engine.path if same else "auto"
    return FrozenReference(Engine(model, path, temperature=engine.temperature), autocast)


def _copied(model: nn.Module) -> nn.Module:
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ValueError(
            "DeepSpeed ZeRO-3 has split the policy's weights, so no copy of them can be taken for "
            "reference: base. Name the model's folder as reference, or use ZeRO-2."
        )
    return copy.deepcopy(model)


def _add_copy(model: nn.Module) -> None:
    if not isinstance(model, PeftModel):
        raise ValueError(
            "reference: adapter is a copy of the adapter that training starts from, but the policy "
            f"is a {type(model).__name__} without one. Set reference: base."
        )
    refuse_trained_base(model)
    copy_adapter(model)


def _refuse_hidden_adapters(model: nn.Module) -> None:
    if isinstance(model, PeftModel):
        refuse_merged(model)
    elif any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise ValueError(
            f"adapters are only seen on a PeftModel, but this {type(model).__name__} holds some of "
            "its own. Attach them with peft's get_peft_model or PeftModel.from_pretrained, or load "
            "the model again."
        )


def _refuse_shared(model: nn.Module, policy: nn.Module) -> None:
    trained = {p.untyped_storage().data_ptr() for p in policy.parameters() if p.requires_grad}
    held = {p.untyped_storage().data_ptr() for p in model.parameters()}
    if trained & held - {0}:  # 0 stands for what is elsewhere
        raise ValueError(
            "the reference must stay as it is, but it shares weights with the policy that are "
            "trained. Set reference: base, which is the policy as it is before training."
        )


@contextmanager
def _autocast(model: Any, dtype: torch.dtype | None) -> Iterator[None]:
    kind = next(model.parameters()).device.type
    with torch.autocast(kind, dtype=dtype) if dtype else nullcontext():
        yield
