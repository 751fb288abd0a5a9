"""Completions drawn from the policy while it trains, with noise that belongs to the prompt.

One uniform number decides a token, by inverse transform: the first token up to which the
probabilities add up to more. The numbers are keyed by seed, update and prompt (its pictures
included), so what is drawn depends neither on batches, accumulation and processes, nor on what a
resumed run skipped, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from contralign.decoding.vocabulary import place_ids

from .adapters import evaluating
from .batch import Batch
from .packing import joined_images, token_types
from .paths import part, stacked
from .reference_keys import completion_keys
from .scratch import merged
from .support import language_model

Draw = Callable[["Sampling", Any, Batch, str], list[list[int]]]
"""Model, prompts and moment -> k rows a prompt, which may go on behind a stop."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        k: Completions a prompt.
        longest: Tokens of the longest one, which then has no end.
        temperature: The logits are divided by it; nothing else changes the distribution: of the
            model's own generation config only what ends a text is kept.
        stops: Token ids that end a completion and belong to it.
        pad: The id that stands behind it in a batch.
        seed: Of the noise.
    """

    k: int
    longest: int
    temperature: float
    stops: tuple[int, ...]
    pad: int
    seed: int

    def __call__(self, model: Any, batch: Batch, moment: str, draw: Draw | None = None) -> Batch:
        """Draw k completions of each prompt.

        Args:
            model: With `generate`, not wrapped; its mode stays as it is.
            batch: Prompts; their own completions aren't read.
            moment: With the seed and the prompt, what the noise belongs to.
            draw: What generates; default: `generated`.

        Returns:
            The prompts with completions, each up to its first stop.
        """
        prompts = replace(batch, completions=[[] for _ in batch.prompts])
        with evaluating(model):
            said = [self.cut(ids) for ids in (draw or generated)(self, model, prompts, moment)]
        groups = [said[i : i + self.k] for i in range(0, len(said), self.k)]
        return replace(prompts, completions=groups, sampled=self.k)

    def cut(self, ids: Sequence[int]) -> list[int]:
        """Take what a completion says: nothing behind its first stop."""
        end = next((i for i, token in enumerate(ids) if token in self.stops), len(ids))
        return list(ids[: end + 1])

    def noise(self, batch: Batch, moment: str) -> Float[Tensor, "rows tokens"]:
        """Draw the numbers in [0, 1) that decide: k rows a prompt."""
        keys = completion_keys(replace(batch, completions=[[[0]] for _ in batch.prompts]))
        return torch.from_numpy(np.concatenate([self._uniform(key, moment) for key in keys]))

    def config(self, **others: Any) -> GenerationConfig:
        """Generate up to a stop or the longest, and leave the choice of tokens to the noise."""
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=self.longest,
            eos_token_id=list(self.stops),
            pad_token_id=self.pad,
            **others,
        )

    def _uniform(self, key: bytes, moment: str) -> np.ndarray:
        digest = blake2b(repr((self.seed, moment, key)).encode(), digest_size=16).digest()
        philox = np.random.Philox(key=int.from_bytes(digest, "big"))
        return np.random.Generator(philox).random((self.k, self.longest))


def generated(sampling: Sampling, model: Any, batch: Batch, moment: str) -> list[list[int]]:
    """Draw with transformers' `generate`."""
    # Pictures go one by one: padding would move what stands in their places.
    parts = [part(batch, [i]) for i in range(len(batch))] if batch.images else [batch]
    with merged(model), _bare(model, sampling):
        return [row for one in parts for row in _generated(sampling, model, one, moment)]


def _generated(sampling: Sampling, model: Any, batch: Batch, moment: str) -> list[list[int]]:
    width, k = max(map(len, batch.prompts)), sampling.k
    gaps = [width - len(prompt) for prompt in batch.prompts]
    ids = torch.tensor(
        [[sampling.pad] * gap + [*p] for gap, p in zip(gaps, batch.prompts, strict=True)]
    )
    mask = (torch.arange(width) >= torch.tensor(gaps)[:, None]).long()
    types = stacked(token_types(batch, [0] * len(batch), gaps), k)
    device = model.get_input_embeddings().weight.device
    inputs = {
        "input_ids": ids.repeat_interleave(k, 0),
        "attention_mask": mask.repeat_interleave(k, 0),
        **joined_images(batch, k),
        **types,
    }
    noise = InverseTransform(sampling.noise(batch, moment).to(device), width, sampling.temperature)
    output: Tensor = model.generate(
        **{name: value.to(device) for name, value in inputs.items()},
        logits_processor=LogitsProcessorList([noise]),
    )
    rows: list[list[int]] = output[:, width:].tolist()
    return rows


class InverseTransform(LogitsProcessor):
    """Leaves the one token that the uniform number of its row and place falls on.

    Args:
        uniform: In [0, 1).
        width: Of the batch's prompts: what lies beyond counts the places.
        temperature: Above 0.
    """

    def __init__(
        self, uniform: Float[Tensor, "rows tokens"], width: int, temperature: float = 1.0
    ) -> None:
        self._uniform, self._width, self._temperature = uniform, width, temperature

    def __call__(
        self, input_ids: Int[Tensor, "row time"], scores: Float[Tensor, "row vocab"]
    ) -> Float[Tensor, "row vocab"]:
        uniform = self._uniform[:, input_ids.shape[1] - self._width]
        return inverse_transform(scores, uniform, self._temperature)


def inverse_transform(
    scores: Float[Tensor, "row vocab"], uniform: Float[Tensor, " row"], temperature: float
) -> Float[Tensor, "row vocab"]:
    """Leave the one token of each row that its number falls on.

    Args:
        scores: Logits.
        uniform: In [0, 1).
        temperature: Above 0.

    Returns:
        0 at that token, -inf elsewhere.
    """
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    reached = torch.softmax(scores.to(exact) / temperature, -1).cumsum(-1)
    place = uniform[:, None].to(reached)
    total = reached[:, -1:].contiguous()
    # Rounded, the last sum is not 1, and a place just below it may be it. On the right of equals,
    # and up to where all is reached: never a token of no probability.
    token = torch.searchsorted(reached, place * total, right=True)
    token = torch.minimum(token, torch.searchsorted(reached, total))
    return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


@contextmanager
def _bare(model: Any, sampling: Sampling) -> Iterator[None]:
    """Take the model's own generation config away: it may cut, warp or penalise."""
    inner = language_model(model)
    own = inner.generation_config
    inner.generation_config = sampling.config(
        use_cache=True,
        bos_token_id=own.bos_token_id,
        # A picture's place in an answer would want a picture.
        suppress_tokens=place_ids(inner) or None,
    )
    try:
        yield
    finally:
        inner.generation_config = own


def own_seed(device: torch.device) -> AbstractContextManager[None]:
    """Let a generator seed PyTorch, and take it back: the order of the data is drawn from it."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def stops(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """What ends a completion, by the tokenizer or by the model's generation config."""
    config = getattr(language_model(model), "generation_config", None)
    own = getattr(config, "eos_token_id", None)
    given = own if isinstance(own, (list, tuple)) else [own]
    return tuple(sorted({int(i) for i in (*given, tokenizer.eos_token_id) if i is not None}))
