"""What decoding with a picture method has to equal: a loop that shares nothing with the library.

Row by row, without padding and without a cache: Hugging Face's processor reads each branch's prompt
by itself, and every step reads the whole of it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from contralign.decoding.transformations import TRANSFORMATIONS

Inputs = dict[str, Any]
Question = tuple[str, list[Any]]


def prompt(processor: Any, question: Question) -> Any:
    """Chat messages, or raw text where the family has no template."""
    text, images = question
    if processor.chat_template:
        parts = [{"type": "image"} for _ in images]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    return "<image>" * len(images) + text if isinstance(processor, hf.PaliGemmaProcessor) else text


def shown(processor: Any, question: Question, system: str | None = None) -> Inputs:
    """The prompt with its pictures."""
    messages, images = prompt(processor, question), question[1]
    if processor.chat_template:
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        messages = _rendered(processor, messages)
    elif system is not None:
        places = messages[: messages.rfind(">") + 1]
        messages = f"{places}{system} {question[0]}"
    inputs = processor(text=[messages], images=[images], return_tensors="pt")
    return {key: value for key, value in inputs.items() if key != "labels"}


def noised(processor: Any, question: Question, seed: int, step: int) -> Inputs:
    """The prompt with its pictures in noise, by VCD's formula."""
    inputs = shown(processor, question)
    beta = torch.linspace(-6, 6, 1000).sigmoid() * (0.5e-2 - 1e-5) + 1e-5
    kept = (1 - beta).cumprod(0)[step]
    pixels = inputs["pixel_values"]
    drawn = np.random.default_rng([seed, *b"noise"]).standard_normal(pixels.shape, np.float32)
    noise = torch.from_numpy(drawn)
    return {**inputs, "pixel_values": kept.sqrt() * pixels + (1 - kept).sqrt() * noise}


def transformed(processor: Any, question: Question, seed: int, name: str | None = None) -> Inputs:
    """The prompt with its pictures transformed; what the transformations do is tested elsewhere."""
    text, images = question
    random = np.random.default_rng([seed, *b"choice"])
    change = TRANSFORMATIONS[name or [*TRANSFORMATIONS][random.integers(6)]]
    random = np.random.default_rng([seed, *b"transformation"])
    # Of the eleven families LLaVA-1.5 alone cuts pictures to one size.
    size = (28, 28) if isinstance(processor, hf.LlavaProcessor) else None
    return shown(processor, (text, [change(image, random, size) for image in images]))


def unseen(processor: Any, question: Question, mark: bool = False) -> Inputs:
    """The prompt without its pictures, or with an unknown token for each."""
    text, images = question
    tokenizer = processor.tokenizer
    unknown = (tokenizer.unk_token or tokenizer.pad_token) if mark else ""
    if isinstance(processor, hf.PaliGemmaProcessor):
        read = tokenizer(f"{unknown * len(images)}<s>{text}\n", return_tensors="pt")
        return {**read, "token_type_ids": torch.zeros_like(read["input_ids"])}
    if isinstance(processor, hf.InstructBlipProcessor):
        return dict(tokenizer(unknown * len(images) + text, return_tensors="pt"))
    if mark:
        written = _rendered(processor, prompt(processor, question))
        written = written.replace(processor.image_token, unknown)
    else:
        written = _rendered(processor, prompt(processor, (text, [])))
    return dict(processor(text=[written], return_tensors="pt"))


@torch.no_grad()
def decoded(
    model: Any,
    branches: Sequence[Sequence[Inputs]],
    rule: Callable[..., Tensor],
    steps: int,
    seed: int | None = None,
) -> tuple[list[list[int]], Tensor]:
    """Greedy search, or sampling from PyTorch's generator.

    Args:
        model: The model.
        branches: For each branch, the expert's first, the inputs of each row.
        rule: `rule(step, *logits)`, one vector a branch.
        steps: How many tokens.
        seed: Of sampling.

    Returns:
        The tokens, and the scores that they were taken from, `[rows, steps, vocab]`.
    """
    new: list[list[int]] = [[] for _ in branches[0]]
    taken = []
    if seed is not None:
        torch.manual_seed(seed)
    for step in range(steps):
        read = [
            [next_logits(model, inputs, new[i]) for i, inputs in enumerate(rows)]
            for rows in branches
        ]
        scores = torch.stack([rule(step, *logits) for logits in zip(*read, strict=True)])
        tokens = scores.argmax(-1) if seed is None else _sampled(scores)
        for row, token in zip(new, tokens.tolist(), strict=True):
            row.append(token)
        taken.append(scores)
    return new, torch.stack(taken, dim=1)


def next_logits(model: Any, inputs: Inputs, new: Sequence[int]) -> Tensor:
    """Read the whole sequence anew."""
    model = inputs.get("model", model)
    if "pixel_values" not in inputs and isinstance(model, hf.InstructBlipForConditionalGeneration):
        model = model.language_model
    marks = isinstance(model, hf.PaliGemmaForConditionalGeneration)
    return model(**_extended(inputs, new, marks), use_cache=False).logits[0, -1].float()


def kept(expert: Tensor, scores: Tensor, cutoff: float = 0.1) -> Tensor:
    """The scores of the plausible tokens."""
    return scores.masked_fill(expert < math.log(cutoff) + expert.max(), -math.inf)


def _extended(inputs: Inputs, new: Sequence[int], generated_type: bool) -> Inputs:
    grown, count = {key: x for key, x in inputs.items() if key != "model"}, len(new)
    tail = {
        "input_ids": torch.tensor([list(new)], dtype=torch.long),
        "attention_mask": torch.ones(1, count, dtype=torch.long),
        "mm_token_type_ids": torch.zeros(1, count, dtype=torch.long),
        # Gemma marks pictures with 1, PaliGemma what comes after the prompt.
        "token_type_ids": torch.full((1, count), int(generated_type), dtype=torch.long),
    }
    for name, more in tail.items():
        if name in grown:
            grown[name] = torch.cat([grown[name], more], dim=1)
    return grown


def _rendered(processor: Any, messages: Any) -> str:
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def _sampled(scores: Tensor) -> Tensor:
    return torch.multinomial(scores.softmax(-1), 1)[:, 0]
