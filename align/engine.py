"""Per-token log-probs of completions under a model, by the cheapest path that is exact for it.

packed: one row without padding, each prompt once (`packing.py`, `attention.py`).
prefix: the prompts in one forward, all completions in a second one on the prompts' cache.
padded: each completion in a row of its own behind its prompt.

The first batch is also scored one sequence at a time through all that the model itself does, and a
path that disagrees isn't taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from transformers.utils import logging

from .attention import NAME
from .batch import Batch
from .head import logit_shape, shaped_scores
from .paths import PATHS, Inputs, first, own_logps
from .support import backbone, language_model, learns_prompt, obstacles, refuse_unscorable

logger = logging.get_logger(__name__)

CHECKED_PROMPTS = 2
FLOAT32_TOLERANCE = 1e-3
HALF_TOLERANCE = 0.05


@dataclass(frozen=True)
class TokenLogps:
    """What the engine returns, padded as `Batch.mask` is.

    Attributes:
        logps: Log-probs in nats, float32, zero on the padding.
        entropy: Entropies of the distributions they were scored under, in nats, detached; or None.
    """

    logps: Float[Tensor, "prompts k tokens"]
    entropy: Float[Tensor, "prompts k tokens"] | None = None


class Engine:
    """Scores completions under one model.

    Args:
        model: A causal or image-text-to-text model of transformers, or a PEFT model around one.
        path: auto, packed, prefix or padded; auto takes the first of the others that is exact.
        temperature: Of the distribution that samples (`Batch.sampled`) are scored under; all else
            is scored under the model's own.

    Attributes:
        path: The path it takes; "auto" until the first batch has been checked.

    Raises:
        ValueError: An unknown path, one that this model can't take, or a model that none can.
    """

    def __init__(self, model: nn.Module, path: str = "auto", *, temperature: float = 1.0) -> None:
        if path not in ("auto", *PATHS):
            raise ValueError(f"the path is one of auto, {', '.join(PATHS)}, got {path!r}.")
        refuse_unscorable(model)
        self.model: Any = model
        self.path = path
        self.temperature = temperature
        self._checked = False
        self._entered = 0
        self._own = self._config._attn_implementation
        if path != "auto" and (reasons := obstacles(model, path)):
            raise ValueError(_inexact(model, path, reasons))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Enter around forward and backward: checkpointed layers run forward again in backward."""
        self._entered += 1
        try:
            yield
        finally:
            self._entered -= 1
            if not self._entered:
                self._attend(self._own)

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None, entropy: bool = False
    ) -> TokenLogps:
        """Score a batch; where layers are checkpointed, inside `installed`.

        Args:
            batch: Prompts with their completions.
            through: The model in a wrapper (DDP, FSDP, DeepSpeed) whose hooks must run.
            entropy: Whether to return entropies too.

        Raises:
            ValueError: The path that was asked for isn't exact for this model.
            RuntimeError: Checkpointed layers outside `installed`: backward would see another model.
        """
        if not batch.k:
            raise ValueError(
                "completions are what is scored, got prompts alone. Sample some, or add them."
            )
        self._refuse_open_checkpoints()
        outer = self.model if through is None else through
        if not self._checked:
            self.path = self._exact_path(first(batch, CHECKED_PROMPTS), outer)
            self._checked = True
        return self._scored(batch, outer, self.path, entropy)

    def _refuse_open_checkpoints(self) -> None:
        model = language_model(self.model)
        recomputes = model.training and model.is_activation_checkpointing
        if recomputes and torch.is_grad_enabled() and not self._entered:
            raise RuntimeError(
                "with gradient checkpointing, forward and backward run inside engine.installed(), "
                "got a forward outside. Wrap both in `with engine.installed():`."
            )

    def _scored(self, batch: Batch, outer: Any, path: str, entropy: bool) -> TokenLogps:
        model = language_model(self.model)
        shapes = (logit_shape(self._config), logit_shape(self._config, self.temperature))
        body = backbone(model)
        run = PATHS[path](batch, body)
        targets = torch.tensor([token for completion in batch.flat for token in completion])
        tempered = batch.drawn[batch.mask] if self.temperature != 1 else None

        def forward(*_: Any, **inputs: Any) -> tuple[Tensor, Tensor | None]:
            given = {name: value for name, value in inputs.items() if value is not None}
            hidden = run.hidden(body, given)
            head = model.get_output_embeddings()
            hidden = hidden.to(head.weight.device)
            ids = targets.to(hidden.device)
            return shaped_scores(head, hidden, ids, shapes, tempered, entropy=entropy)

        with self.installed(), standing_in(model, forward):
            self._attend(NAME if path == "packed" else self._own)
            logps, entropies = self._call(outer, run.inputs)
        mask = batch.mask.to(logps.device)
        return TokenLogps(
            _padded(logps, mask), None if entropies is None else _padded(entropies, mask)
        )

    @property
    def _config(self) -> Any:
        return language_model(self.model).config.get_text_config()

    def _attend(self, implementation: str) -> None:
        self._config._attn_implementation = implementation

    def _call(self, outer: Any, inputs: Inputs) -> Any:
        inner = language_model(self.model)
        device = inner.get_input_embeddings().weight.device
        if learns_prompt(self.model):
            # Virtual tokens move the positions; switched off, PEFT calls a forward that it saved.
            inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
            outer = inner if self.model._adapters_disabled else outer
        return outer(
            **{name: x.to(device) if isinstance(x, Tensor) else x for name, x in inputs.items()}
        )

    @torch.no_grad()
    def _exact_path(self, batch: Batch, outer: Any) -> str:
        """The path that was asked for, or the first exact one, on a part of the batch."""
        modes = [(module, module.training) for module in self.model.modules()]
        obstructed = {path: obstacles(self.model, path) for path in PATHS}
        self.model.eval()
        try:
            self._attend(self._own)
            expected = own_logps(
                batch, lambda inputs: self._call(outer, inputs).logits, self.temperature
            )
            if bool(expected.isnan().any()):
                raise ValueError(
                    f"{_name(self.model)}'s own log-probs are NaN: some of its weights aren't "
                    "finite, or float16 overflows. Set another dtype, or download it again."
                )
            for path in PATHS if self.path == "auto" else (self.path,):
                reasons = obstructed[path] or self._differences(batch, outer, path, expected)
                if not on_any_process(bool(reasons), expected.device):
                    logger.info(f"{_name(self.model)} takes the {path} path.")
                    return path
                logger.warning(_inexact(self.model, path, reasons))
        finally:
            for module, training in modes:
                module.training = training
        raise ValueError(_inexact(self.model, path, reasons))

    def _differences(self, batch: Batch, outer: Any, path: str, expected: Tensor) -> list[str]:
        try:
            found = self._scored(batch, outer, path, False).logps
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:  # what a kernel or a signature can't do
            return [f"{type(error).__name__}: {error}"]
        apart = (found[batch.mask.to(found.device)] - expected).abs()
        rounded = torch.is_autocast_enabled(expected.device.type)
        inner = language_model(self.model)
        # 8 bits round the hidden states too, each batch in its own way.
        quantized = getattr(inner, "is_quantized", False)
        exact = inner.dtype == torch.float32 and not (rounded or quantized)
        worst = float(apart.max() if exact else apart.mean())
        if worst <= (FLOAT32_TOLERANCE if exact else HALF_TOLERANCE):
            return []
        return [f"its log-probs are {worst:.2g} nats from the model's own"]


@contextmanager
def standing_in(module: Any, forward: Any) -> Iterator[None]:
    """Let `forward` run in place of a module's own, inside whatever hooks and wrappers it has."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _padded(flat: Tensor, mask: Tensor) -> Tensor:
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def on_any_process(true: bool, device: torch.device) -> bool:
    """Whether it is true anywhere: processes that went different ways would wait for ever."""
    if not (dist.is_available() and dist.is_initialized()):
        return true
    flag = torch.tensor(int(true), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _inexact(model: Any, path: str, reasons: list[str]) -> str:
    why = "; ".join(reasons) or "another process found it inexact"
    return f"{_name(model)} can't take the {path} path: {why}. Take auto, or padded."


def _name(model: Any) -> str:
    return type(language_model(model)).__name__
