"""A model with projections of its own for chosen and for rejected answers, and what scores both.

The model's tower looks at each picture once for both. What is trained stands beside the model, in a
clone that shares all of its weights; the model itself reads with its own projection, as before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from contralign.decoding.clones import bare, clone
from contralign.decoding.eyes import Eyes
from contralign.decoding.projectors import modules, projector

from .batch import Batch
from .engine import Engine, TokenLogps, standing_in
from .merge import merge_layer

SIDES = {"chosen": "positive", "rejected": "negative"}
OWN = "projections"


def decoupled(model: Any, sides: Sequence[str], adapter: PeftConfig | None = None) -> Any:
    """Return a clone that has copies of the model's projector to train, all else frozen.

    Args:
        model: A vision-language model, out of any wrapper; its parameters' gradient flags are off
            from then on, its weights never change.
        sides: Of "positive" and "negative", which are trained.
        adapter: Trains LoRA on the copies; None trains all of them.

    Raises:
        ValueError: It has no projector that is known, or the adapter finds nothing in it.
    """
    model.requires_grad_(False)
    made = {side: nn.ModuleList(map(_wide, modules(model).values())) for side in sides}
    projections = nn.ModuleDict(made).requires_grad_(True)
    if adapter is not None:
        projections = _adapted(projections, adapter)
    return clone(model, {OWN: projections})


def trained_tensors(policy: Any, side: str) -> dict[str, Tensor]:
    """A trained projection's tensors by their names in the model, adapters merged in a copy."""
    parts = copy.deepcopy(policy.get_submodule(f"{OWN}.{side}"))
    for layer in parts.modules():
        if isinstance(layer, BaseTunerLayer):
            merge_layer(layer)
    return {
        f"{path}.{name}": value
        for path, part in zip(projector(_seeing(policy)), bare(parts), strict=True)
        for name, value in part.state_dict().items()
    }


class Turn(Mapping[str, nn.Module]):
    """The projection whose turn it is: its modules, by the paths of the model's own.

    Args:
        policy: What `decoupled` made.

    Attributes:
        side: "positive" or "negative"; one that isn't trained is the model's own.
    """

    def __init__(self, policy: Any) -> None:
        self.policy, self.paths = policy, projector(_seeing(policy))
        self.side = "positive"

    def __getitem__(self, path: str) -> nn.Module:
        trained = self.policy.get_submodule(OWN)
        if self.side not in trained:
            return self.policy.get_submodule(path)
        return trained[self.side][self.paths.index(path)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


class DecoupledEngine(Engine):
    """Scores chosen answers through the positive projection, rejected ones through the negative.

    Args:
        policy: What `decoupled` made.
        path: See `Engine`.
    """

    def __init__(self, policy: Any, path: str) -> None:
        self.policy, self.turn = policy, Turn(policy)
        self.eyes = Eyes(_seeing(policy))
        super().__init__(self.eyes.through(self.turn), path)

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None, entropy: bool = False
    ) -> TokenLogps:
        """Score each side of a batch through its own projection; see `Engine`."""
        jobs = [(SIDES[name], one_side(batch, name)) for name in batch.sides]
        parts = self._read(jobs, through, entropy)
        entropies = [part.entropy for part in parts if part.entropy is not None]
        return TokenLogps(
            _beside([part.logps for part in parts]), _beside(entropies) if entropies else None
        )

    def both(self, batch: Batch, *, through: nn.Module | None = None) -> dict[str, TokenLogps]:
        """Score all answers through either projection."""
        read = self._read([(side, batch) for side in SIDES.values()], through, entropy=True)
        return dict(zip(SIDES.values(), read, strict=True))

    def _read(
        self, jobs: Sequence[tuple[str, Batch]], through: Any, entropy: bool
    ) -> list[TokenLogps]:
        self.eyes.readers = len(jobs)
        found: list[TokenLogps] = []

        def forward(*_: Any, **__: Any) -> tuple[Tensor, ...]:
            for self.turn.side, batch in jobs:
                found.append(super(DecoupledEngine, self).__call__(batch, entropy=entropy))
            return tuple(part.logps for part in found)

        with standing_in(self.policy, forward):
            # A wrapper of many processes hooks into what it calls and what comes out of it.
            scored = (self.policy if through is None else through)(torch.zeros(1))
        self.eyes.forget()
        return [replace(part, logps=x) for part, x in zip(found, scored, strict=True)]


def one_side(batch: Batch, name: str) -> Batch:
    """The chosen or the rejected answers of pairs alone."""
    at = list(batch.sides).index(name)
    return replace(batch, completions=[[group[at]] for group in batch.completions], sides=(name,))


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Join `[prompts, 1, tokens]` to `[prompts, k, tokens]`, padded with zeros."""
    width = max(part.shape[-1] for part in parts)
    return torch.cat([nn.functional.pad(x, (0, width - x.shape[-1])) for x in parts], dim=1)


def _seeing(policy: Any) -> Any:
    """The model without what is trained."""
    children = {name: child for name, child in policy._modules.items() if name != OWN}
    made = clone(policy, {})
    made.__dict__["_modules"] = children
    return made


def _wide(part: nn.Module) -> nn.Module:
    """Train in float32: updates would vanish in the rounding of half precision."""
    narrow = next(part.parameters()).dtype
    if narrow == torch.float32:
        return part

    def widened(_: nn.Module, args: Any) -> Any:
        return tuple(x.float() if isinstance(x, Tensor) else x for x in args)

    part.register_forward_pre_hook(widened)
    part.register_forward_hook(lambda _, __, output: output.to(narrow))
    return part.float()


def _adapted(projections: nn.ModuleDict, adapter: PeftConfig) -> nn.ModuleDict:
    linear = [name for name, part in projections.named_modules() if isinstance(part, nn.Linear)]
    wanted = getattr(adapter, "target_modules", None)
    adapter = copy.copy(adapter)
    adapter.task_type = None
    if isinstance(adapter, LoraConfig) and wanted in (None, "all-linear"):
        adapter.target_modules = set(linear)
    if not linear:
        raise ValueError(
            "LoRA adapts linear layers, but this model's projector has none. Leave use_peft out: "
            "all of the projector is small."
        )
    try:
        inject_adapter_in_model(adapter, projections)
    except ValueError as error:
        raise ValueError(
            f"the adapter's target modules match no layer of the projector, got {wanted}. Its "
            f"linear layers are {', '.join(linear)}; or set all-linear."
        ) from error
    return projections
