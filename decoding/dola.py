"""DoLa contrasts the final layer with an early layer of the same forward: no second pass.

Chuang et al. 2023, "DoLa: Decoding by Contrasting Layers Improves Factuality in Large Language
Models", arXiv 2309.03883. The early layer is the one with the largest Jensen-Shannon divergence to
the final one. Deviation: the authors average that divergence over the batch and swap the arguments
of its two KL terms; here it is the true divergence, and each row selects its own layer. The layer
ranges are those of transformers-community/dola.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from .checks import fraction, whole
from .divergence import jsd, log_probs
from .method import EarlyExit, Inputs, Logits, Source
from .plausible import lifted, plausible
from .promptless import Promptless

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Deeper models look no further than this many layers from either end.
REACH = 20
TIE = 1e-6  # nats


@dataclass(frozen=True)
class DoLa(Promptless):
    """`log p_final - log p_early` on the plausible tokens, `early = argmax JSD(p_final, p_layer)`.

    Attributes:
        layers: The candidates: the `low` or the `high` half of the model, every second layer, or a
            tuple of indices into `hidden_states`. The authors take high for short answers and low
            for long reasoning.
        cutoff: Least share of the final layer's best probability that a token must have; None, for
            multiple choice, keeps every token (the authors' relative_top 0).
    """

    paper: ClassVar[str] = "Chuang et al. 2023, arXiv 2309.03883"

    layers: Literal["low", "high"] | tuple[int, ...] = "high"
    cutoff: float | None = 0.1

    def __post_init__(self) -> None:
        if self.layers not in ("low", "high"):
            _distinct(self.layers)
        if self.cutoff is not None:
            fraction("cutoff", self.cutoff)

    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        final = log_probs(expert)
        early = torch.stack([log_probs(logits) for logits in contrasts])
        divergence = torch.stack([jsd(final, logps) for logps in early])
        # Layers as far as rounding can tell take the first, whatever order the vocabulary is in.
        tied = divergence >= divergence.amax(dim=0) - TIE
        farthest = tied.int().argmax(dim=0)[None, ..., None]
        selected = torch.take_along_dim(early, farthest, dim=0)[0]
        scores = final - lifted(selected)
        return scores.masked_fill(~plausible(expert, self.cutoff), -math.inf)

    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        """Turn `layers` into the early exits of this model.

        Raises:
            ValueError: The model is an encoder-decoder, or has none of the layers asked for.
        """
        config = model.config
        if config.is_encoder_decoder:
            raise ValueError(
                f"DoLa contrasts the layers of a decoder-only model, got {type(model).__name__}. "
                "Choose another method for an encoder-decoder."
            )
        depth = config.get_text_config(decoder=True).num_hidden_layers
        if isinstance(self.layers, tuple):
            chosen = self.layers
        else:
            chosen = _range(self.layers, depth, config.tie_word_embeddings)
        if not chosen or max(chosen) >= depth:
            raise ValueError(
                f"layers must be early exits of the model's {depth} layers, 0 to {depth - 1}, got "
                f"layers={self.layers!r} ({list(chosen)}). Name layers in that range."
            )
        return [EarlyExit(layer) for layer in chosen]


def _distinct(layers: object) -> None:
    if not isinstance(layers, tuple) or not layers:
        raise ValueError(
            f"layers must be low, high or a tuple of indices, got {layers!r}. "
            "Write indices as (2, 4, 6), or 2,4,6 in a name."
        )
    for layer in layers:
        whole("layers", layer, 0)
    if len(set(layers)) < len(layers):
        raise ValueError(f"layers must name each layer once, got {layers!r}. Drop the repeats.")


def _range(half: str, depth: int, tied: bool) -> tuple[int, ...]:
    middle = depth // 2
    if half == "high":
        return tuple(range(max(middle, depth - REACH), depth, 2))
    # A tied embedding read through the LM head just gives the input token back.
    first = min(2, depth - 1) if tied else 0
    return (first,) if first == middle else tuple(range(first, min(middle, REACH), 2))
