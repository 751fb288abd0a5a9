"""Floating-point operations of a forward and backward pass, counted on the meta device.

One layer and two are counted, and as layers are all the same the rest follows exactly. The head's
operations are a whole number of times 2 x tokens x vocabulary x width, which is counted on a small
real one. Attention is counted in full, as PyTorch's counter sees it: kernels that leave out what is
masked save about half of it in padded rows and in packed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from peft import LoraConfig, get_peft_model
from shapes import PATCH, SHAPES, TOWERS, random_llava, random_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training_contest import LAYERS
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from contralign.align.attention import NAME
from contralign.align.batch import Batch
from contralign.align.head import TRL_CHUNK, LogitShape, token_scores
from contralign.align.paths import packed

ATTENTION = {torch.ops.aten.bmm, torch.ops.aten.baddbmm}
META = torch.device("meta")
Counts = dict[str, int]


def operations(act: Callable[[], object]) -> Counts:
    """Count one call.

    Returns:
        all: Of everything.
        linear: Without attention.
    """

    def added(_: torch.Size, left: torch.Size, right: torch.Size, **__: Any) -> int:
        return 2 * left.numel() * right[1]

    # The counter doesn't know by itself that addmm_ multiplies.
    known = {torch.ops.aten.addmm_: added}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        act()
    counts = counter.get_flop_counts()["Global"]
    attention = sum(count for kind, count in counts.items() if kind in ATTENTION)
    return {"all": sum(counts.values()), "linear": sum(counts.values()) - attention}


# The head


def trl_head(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """TRL's chunked kernel, which is ours too on CUDA."""
    kernel: Any = ChunkedLogProbFunction.apply
    weight = head.weight
    return kernel(hidden, weight, None, targets, 1.0, TRL_CHUNK, None, 1.0, ("log_probs",))[0]


def frozen_head(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Ours elsewhere, where the head isn't trained."""
    return token_scores(head, hidden, targets, LogitShape())[0]


def head_units(score: Callable[[Tensor, nn.Linear, Tensor], Tensor]) -> dict[str, float]:
    """Count a head's products of all tokens with the whole vocabulary.

    Returns:
        forward: Without gradient.
        step: Forward and backward.
    """
    tokens, width, vocabulary = 3, 4, 7
    head = nn.Linear(width, vocabulary, bias=False).requires_grad_(False)
    hidden = torch.randn(tokens, width, requires_grad=True)
    targets = torch.arange(tokens)

    def forward() -> None:
        with torch.no_grad():
            score(hidden, head, targets)

    def step() -> None:
        score(hidden, head, targets).sum().backward()

    unit = 2 * tokens * width * vocabulary
    return {act.__name__: operations(act)["all"] / unit for act in (forward, step)}


# The layers


def padded_rows(backbone: Any, batch: Batch) -> Tensor:
    """TRL's batch: each completion behind a copy of its prompt, all as long as the longest."""
    pairs = zip(batch.prompts, batch.completions, strict=True)
    width = max(len(prompt) + max(map(len, group)) for prompt, group in pairs)
    ids = torch.zeros(len(batch.flat), width, dtype=torch.long, device=META)
    return backbone(input_ids=ids, use_cache=False).last_hidden_state


def packed_row(backbone: Any, batch: Batch) -> Tensor:
    """Ours; the attention stays, as checkpointed layers run again in backward."""
    run = packed(batch, backbone)
    backbone.config._attn_implementation = NAME
    return run.hidden(backbone, {name: x.to(META) for name, x in run.inputs.items()})


WAYS: dict[str, Callable[[Any, Batch], Tensor]] = {"padded": padded_rows, "packed": packed_row}


def body(shape: str, batches: Sequence[Batch], way: str) -> dict[str, Counts]:
    """Count what the layers do.

    Returns:
        policy: Forward and backward.
        checkpointed: The same with checkpointing.
        reference: Forward without gradient and adapter.
    """
    full = SHAPES[shape]["num_hidden_layers"]
    one, two = (few_layers(shape, count, batches, way) for count in (1, 2))
    return {
        part: {kind: n + (full - 1) * (two[part][kind] - n) for kind, n in counts.items()}
        for part, counts in one.items()
    }


def few_layers(shape: str, count: int, batches: Sequence[Batch], way: str) -> dict[str, Counts]:
    """Count them one by one."""
    model: Any = random_model(shape, torch.bfloat16, META, count)
    model = get_peft_model(model, LoraConfig(r=16, target_modules=LAYERS, task_type="CAUSAL_LM"))
    backbone = model.get_base_model().base_model
    model.train()

    def policy() -> None:
        for batch in batches:
            WAYS[way](backbone, batch).sum().backward()

    def reference() -> None:
        with torch.no_grad(), model.disable_adapter():
            for batch in batches:
                WAYS[way](backbone, batch)

    with on_meta():
        counts = {"policy": operations(policy), "reference": operations(reference)}
        model.activation_checkpointing_enable()
        return {**counts, "checkpointed": operations(policy)}


def tower(shape: str) -> Counts:
    """Count one image's way through the frozen vision tower and the projector."""
    model: Any = random_llava(shape, torch.bfloat16, META, layers=1)
    side = TOWERS[shape]["image_size"]
    pixels = torch.zeros(1, 3, side, side, dtype=torch.bfloat16, device=META)

    def forward() -> None:
        with torch.no_grad():
            model.get_image_features(pixels)

    return operations(forward)


def image_tokens(shape: str) -> int:
    """How many tokens an image is for the language model."""
    return (TOWERS[shape]["image_size"] // PATCH) ** 2


@contextmanager
def on_meta() -> Iterator[None]:
    """Stand in for three functions that ask the meta device what it can't tell."""

    def lower_right(queries: int, keys: int) -> Tensor:
        return torch.ones(queries, keys, dtype=torch.bool, device=META).tril(keys - queries)

    with ExitStack() as stack:
        for name, stand_in in (
            ("torch.is_autocast_enabled", lambda *_: False),
            ("transformers.masking_utils.find_packed_sequence_indices", lambda *_: None),
            ("contralign.align.attention.causal_lower_right", lower_right),
        ):
            stack.enter_context(mock.patch(name, stand_in))
        yield
