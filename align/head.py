"""Log-probs of given tokens from hidden states, without ever holding the logits of a whole batch.

With a frozen head, which is LoRA's usual case, the gradient of a token's log-prob is a scalar
times `W[y] - E_p[W]`: one pass over the vocabulary collects that expectation beside the normaliser,
as flash attention does with values, and backward is a single product (ours). A head that is
trained, and any head on CUDA, goes through TRL's chunked kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

VOCABULARY_CHUNK = 8192
TOKEN_CHUNK = 4096
MODULE_CHUNK = 256
TRL_CHUNK = 32768

Scores = tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"] | None]


@dataclass(frozen=True)
class LogitShape:
    """What happens between the head's product and the softmax: `cap * tanh(scale * y / cap) / T`.

    Attributes:
        scale: Factor of the head's output.
        softcap: Bound of the logits; None has none.
        temperature: Of the distribution that is scored; 1 is the model's own.
    """

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    def __call__(self, raw: Float[Tensor, "tokens vocab"]) -> Float[Tensor, "tokens vocab"]:
        scaled = raw * self.scale
        if self.softcap is not None:
            scaled = self.softcap * torch.tanh(scaled / self.softcap)
        return scaled / self.temperature

    def slope(self, shaped: Float[Tensor, "tokens vocab"]) -> Float[Tensor, "tokens vocab"] | float:
        """The derivative by the head's output, given what `__call__` returned."""
        slope = self.scale / self.temperature
        if self.softcap is None:
            return slope
        return slope * (1 - (shaped * self.temperature / self.softcap).square())


def logit_shape(config: Any, temperature: float = 1.0) -> LogitShape:
    """Read how a text model shapes its logits from its config, where each family names it anew."""
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        scale = getattr(config, name, None) or scale
    divisor = getattr(config, "logits_scaling", None)
    if divisor:
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    return LogitShape(scale, getattr(config, "final_logit_softcapping", None), temperature)


def token_scores(
    head: nn.Module,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    shape: LogitShape,
    *,
    entropy: bool = False,
) -> Scores:
    """Score each target under the distribution that its hidden state predicts.

    Args:
        head: The language-model head; anything but a plain linear layer is called as it is.
        hidden: Hidden states, of the positions before the targets.
        targets: Token ids.
        shape: What the model does to the head's product.
        entropy: Whether to compute the distributions' entropies too.

    Returns:
        Log-probs and, if asked for, detached entropies, in nats and float32.
    """
    # An adapter, a quantized matrix or hooks make a head more than its weight.
    if type(head) is not nn.Linear:
        return _through_module(head, hidden, targets, shape, entropy)
    if hidden.is_cuda or head.weight.requires_grad:
        wanted = ("log_probs", "entropy") if entropy else ("log_probs",)
        logps, entropies, *_ = ChunkedLogProbFunction.apply(
            hidden,
            head.weight,
            head.bias,
            targets,
            shape.temperature,
            TRL_CHUNK,
            shape.softcap,
            shape.scale,
            wanted,
        )
        return logps, None if entropies is None else entropies.detach()
    logps, entropies = _FrozenHead.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, targets, shape, torch.is_grad_enabled()
    )
    return logps, entropies.detach() if entropy else None


def shaped_scores(
    head: nn.Module,
    hidden: Float[Tensor, "tokens hidden"],
    targets: Int[Tensor, " tokens"],
    shapes: tuple[LogitShape, LogitShape],
    second: Bool[Tensor, " tokens"] | None,
    *,
    entropy: bool = False,
) -> Scores:
    """Score each target under one of two distributions; see `token_scores`.

    Args:
        head: The language-model head.
        hidden: Hidden states, of the positions before the targets.
        targets: Token ids.
        shapes: What happens to the head's product.
        second: Which targets have the second shape; None has none.
        entropy: Whether to compute the distributions' entropies too.
    """
    if second is None or not second.any() or second.all():
        shape = shapes[second is not None and bool(second.any())]
        return token_scores(head, hidden, targets, shape, entropy=entropy)
    which = second.to(hidden.device)
    parts = [
        token_scores(head, hidden[of], targets[of], shape, entropy=entropy)
        for of, shape in zip((~which, which), shapes, strict=True)
    ]
    (logps, entropies), (tempered, spread) = parts
    joined = _joined(which, logps, tempered)
    if entropies is None or spread is None:
        return joined, None
    return joined, _joined(which, entropies, spread)


def _joined(second: Tensor, first: Tensor, other: Tensor) -> Tensor:
    blank = first.new_zeros(second.shape)
    return blank.masked_scatter(~second, first).masked_scatter(second, other)


class _FrozenHead(torch.autograd.Function):
    """`log p(y | h)` and the entropy; the Jacobian by `h` is complete when forward returns."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        shape: LogitShape,
        grad: bool,
    ) -> tuple[Tensor, Tensor]:
        grad = grad and hidden.requires_grad
        dtype = _compute_dtype(hidden)
        chunks = zip(
            torch.split(hidden, TOKEN_CHUNK), torch.split(targets, TOKEN_CHUNK), strict=True
        )
        with torch.autocast(hidden.device.type, enabled=False):
            parts = [
                _fold(states.to(dtype), weight, bias, ids, shape, grad) for states, ids in chunks
            ]
        logps, entropies, jacobians = (torch.cat(part) for part in zip(*parts, strict=True))
        if grad:
            ctx.save_for_backward(jacobians.to(hidden.dtype))
        ctx.mark_non_differentiable(entropies)
        return logps, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (jacobian,) = ctx.saved_tensors
        return jacobian * grads[0][:, None].to(jacobian.dtype), None, None, None, None, None


def _fold(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    shape: LogitShape,
    grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One pass over the vocabulary with running maximum, normaliser and expectations."""
    count = len(hidden)
    peak = hidden.new_full((count,), -torch.inf, dtype=torch.float32)
    total, energy, said = (torch.zeros_like(peak) for _ in range(3))
    expected = torch.zeros(count if grad else 0, hidden.shape[1], device=hidden.device)
    chosen = torch.zeros_like(expected)
    for start in range(0, len(weight), VOCABULARY_CHUNK):
        rows = weight[start : start + VOCABULARY_CHUNK].to(hidden.dtype)
        raw = hidden @ rows.T
        if bias is not None:
            raw = raw + bias[start : start + VOCABULARY_CHUNK].to(raw.dtype)
        logits = shape(raw.float())
        slope = shape.slope(logits)
        here, at = _within(targets, start, len(rows))
        said[here] = logits[here, at]
        higher = torch.maximum(peak, logits.amax(1))
        shrink = torch.exp(peak - higher)
        weights = torch.exp(logits - higher[:, None])
        total = total * shrink + weights.sum(1)
        energy = energy * shrink + torch.linalg.vecdot(weights, logits)
        if grad:
            # In float32: a chunk's product rounded to bfloat16 would bias the sum.
            expected.mul_(shrink[:, None]).addmm_(weights * slope, rows.float())
            steep = slope[here, at][:, None] if isinstance(slope, Tensor) else slope
            chosen[here] = steep * rows[at].float()
        peak = higher
    normaliser = peak + total.log()
    jacobian = chosen - expected / total[:, None] if grad else expected
    return said - normaliser, normaliser - energy / total, jacobian


def _within(targets: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    """Which targets lie in a chunk of the vocabulary, and where in it."""
    local = targets - start
    here = ((local >= 0) & (local < width)).nonzero()[:, 0]
    return here, local[here]


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _through_module(
    head: nn.Module, hidden: Tensor, targets: Tensor, shape: LogitShape, entropy: bool
) -> Scores:
    """Call the head on a few positions at a time; backward recomputes their logits."""
    score = partial(_score_logits, head, shape=shape, entropy=entropy)
    parts = [
        checkpoint(score, states, ids, use_reentrant=False)
        if torch.is_grad_enabled()
        else score(states, ids)
        for states, ids in zip(
            torch.split(hidden, MODULE_CHUNK), torch.split(targets, MODULE_CHUNK), strict=True
        )
    ]
    logps, entropies = zip(*parts, strict=True)
    return torch.cat(logps), torch.cat(entropies) if entropy else None


def _score_logits(
    head: nn.Module, hidden: Tensor, targets: Tensor, *, shape: LogitShape, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    logps = torch.log_softmax(shape(head(hidden).float()), dim=-1)
    entropies = -torch.xlogy(logps.exp(), logps.exp()).sum(-1).detach() if entropy else None
    return logps.gather(1, targets[:, None])[:, 0], entropies
