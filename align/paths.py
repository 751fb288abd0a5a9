"""The three ways to run a batch through a model, and the plain way that they're checked against.

A path says what to call the model with, and how the backbone's hidden states before each token of
each completion come of it. Position t predicts token t + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from .batch import Batch
from .packing import joined_images, pack, token_types
from .positions import positions_after, prompt_positions

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One call of the model.

    Attributes:
        inputs: Of the call.
        hidden: From the backbone and what reaches it of the inputs to the hidden states that
            predict the completions' tokens, `[tokens, hidden]`, completion by completion.
    """

    inputs: Inputs
    hidden: Callable[[Any, Inputs], Tensor]


def packed(batch: Batch, backbone: Any) -> Run:
    """One row in which each prompt stands once."""
    row = pack(batch, backbone)

    def hidden(backbone: Any, inputs: Inputs) -> Tensor:
        states = backbone(**inputs, packed_layout=row.layout, use_cache=False).last_hidden_state
        return states[0, row.sources.to(states.device)]

    return Run(row.inputs, hidden)


def padded(batch: Batch, backbone: Any) -> Run:
    """A row for each completion behind its prompt, padded on the right."""
    prompts = [prompt for prompt in batch.prompts for _ in range(batch.k)]
    rows = [[*p, *completion] for p, completion in zip(prompts, batch.flat, strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    starts = torch.tensor([[len(prompt)] for prompt in prompts])
    predicted = mask & (torch.arange(width) >= starts)
    inputs: dict[str, Tensor] = {
        "input_ids": ids,
        "attention_mask": mask.long(),
        **joined_images(batch, batch.k),
        **stacked(token_types(batch, [width - len(p) for p in batch.prompts]), batch.k),
    }

    def hidden(backbone: Any, inputs: Inputs) -> Tensor:
        states = backbone(**inputs, use_cache=False).last_hidden_state
        # Virtual tokens of prompt learning stand in front.
        states = states[:, -width:]
        return states[:, :-1][predicted[:, 1:].to(states.device)]

    return Run(inputs, hidden)


def prefix(batch: Batch, backbone: Any) -> Run:
    """The prompts in one forward, padded on the left; then all completions on their cache."""
    placed = prompt_positions(backbone, batch)
    width = max(map(len, batch.prompts))
    gaps = [width - len(prompt) for prompt in batch.prompts]
    mask = (torch.arange(width) >= torch.tensor(gaps)[:, None]).long()
    inputs: dict[str, Tensor] = {
        "input_ids": torch.tensor(
            [[*[0] * gap, *p] for gap, p in zip(gaps, batch.prompts, strict=True)]
        ),
        "attention_mask": mask,
        "position_ids": torch.stack(
            [
                torch.nn.functional.pad(where, (gap, 0))
                for gap, (where, _) in zip(gaps, placed, strict=True)
            ],
            dim=-2,
        ),
        **joined_images(batch),
        **stacked(token_types(batch, [0] * len(batch), gaps)),
    }
    answers = batch.mask.flatten(0, 1)
    count = answers.shape[1]
    ids = torch.zeros(answers.shape, dtype=torch.long)
    ids[answers] = torch.tensor([token for completion in batch.flat for token in completion])
    after = torch.stack([positions_after(first, count, where) for where, first in placed], -2)

    def hidden(backbone: Any, inputs: Inputs) -> Tensor:
        cache = DynamicCache(config=backbone.config.get_text_config())
        states = backbone(**inputs, past_key_values=cache, use_cache=True).last_hidden_state
        cache.batch_repeat_interleave(batch.k)
        device = states.device
        seen = torch.cat([mask.repeat_interleave(batch.k, 0), answers.long()], 1).to(device)
        last = states[:, -1:].repeat_interleave(batch.k, 0)
        states = backbone(
            input_ids=ids.to(device),
            attention_mask=seen,
            position_ids=after.repeat_interleave(batch.k, -2).to(device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return torch.cat([last, states[:, :-1]], 1)[answers.to(device)]

    return Run(inputs, hidden)


PATHS: dict[str, Callable[[Batch, Any], Run]] = {
    "packed": packed,
    "prefix": prefix,
    "padded": padded,
}


def stacked(types: Mapping[str, list[Tensor]], repeats: int = 1) -> dict[str, Tensor]:
    """Join token types, each prompt's `repeats` times over."""
    return {name: torch.stack(rows).repeat_interleave(repeats, 0) for name, rows in types.items()}


def first(batch: Batch, count: int) -> Batch:
    """The first prompts of a batch."""
    return part(batch, range(min(count, len(batch))))


def part(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some prompts of a batch, by their numbers."""
    return replace(
        batch,
        prompts=[batch.prompts[row] for row in rows],
        completions=[batch.completions[row] for row in rows],
        images=[batch.images[row] for row in rows] if batch.images else (),
        columns={name: column[list(rows)] for name, column in batch.columns.items()},
    )


def own_logps(
    batch: Batch, call: Callable[[Inputs], Tensor], temperature: float = 1.0
) -> Float[Tensor, " tokens"]:
    """Score one sequence at a time, unpadded, through everything that the model itself does.

    Args:
        batch: Prompts with their completions.
        call: From a model's inputs to its logits `[1, tokens, vocab]`.
        temperature: Of samples; their logits are divided by it.

    Returns:
        Log-probs of the completions' tokens, in nats, one after the other.
    """
    scores = []
    for index in range(len(batch)):
        for place, answer in enumerate(batch.completions[index]):
            prompt = batch.prompts[index]
            alone = Batch([prompt], [[answer]], batch.images[index : index + 1])
            ids = torch.tensor([[*prompt, *answer]])
            logits = call(
                {
                    "input_ids": ids,
                    "attention_mask": torch.ones_like(ids),
                    **joined_images(alone),
                    **stacked(token_types(alone, [len(answer)])),
                    "use_cache": False,
                }
            )[0, -len(answer) - 1 : -1].float()
            if place >= batch.k - batch.sampled:
                logits = logits / temperature
            logps = torch.log_softmax(logits, dim=-1)
            scores.append(logps.gather(1, torch.tensor(answer).to(logps.device)[:, None])[:, 0])
    return torch.cat(scores)
