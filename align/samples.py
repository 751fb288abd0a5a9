"""What the policy answers at each evaluation, for reading: samples.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .batch import Batch
from .packing import joined_images, token_types

FILE = "samples.jsonl"


@torch.no_grad()
def answers(
    model: Any, batch: Batch, decode: Callable[[Sequence[int]], str], **options: Any
) -> list[dict[str, str]]:
    """Let a model answer prompts greedily, one after the other.

    Args:
        model: With `generate`; runs in the mode it's in.
        batch: Prompts with their pairs.
        decode: Token ids -> text.
        **options: Of `generate`.

    Returns:
        For each prompt: the prompt, its completions of the data, and what was generated.
    """
    device = model.get_input_embeddings().weight.device
    rows = []
    for index, prompt in enumerate(batch.prompts):
        images = batch.images[index : index + 1]
        one = Batch([prompt], batch.completions[index : index + 1], images)
        ids = torch.tensor([list(prompt)], device=device)
        seen = joined_images(one) | {
            name: torch.stack(kinds) for name, kinds in token_types(one, [0]).items()
        }
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            use_cache=True,
            **{name: value.to(device) for name, value in seen.items()},
            **options,
        )
        pair = zip(("chosen", "rejected"), one.completions[0], strict=False)
        rows.append(
            {
                "prompt": decode(prompt),
                **{name: decode(completion) for name, completion in pair},
                "generated": decode(output[0, ids.shape[1] :].tolist()),
            }
        )
    return rows


def append(folder: Path, step: int, name: str, rows: Sequence[dict[str, str]]) -> None:
    """Add answers to the file, one JSON object a line, with the updates so far and the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        for row in rows:
            told = {"step": step, "data": name, **row}
            file.write(json.dumps(told, ensure_ascii=False) + "\n")
