"""Teacher-forced log-probs of given answers under a method: multiple choice through the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .exits import check_readable, exit_logits
from .inputs import check_mapping
from .method import Inputs, Method
from .refusals import check_method, unwrapped
from .run import BranchRun
from .sources import resolved
from .vocabulary import aligned, vocabulary_size


@torch.no_grad()
def score(
    model: nn.Module,
    inputs: Inputs,
    answers: Sequence[Sequence[int]],
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
) -> tuple[Float[Tensor, "rows tokens"], Bool[Tensor, "rows tokens"]]:
    """Score one answer for each prompt, token by token, as the method would have decoded it.

    Args:
        model: A generating transformers model.
        inputs: The main prompts, left padded; repeat a row to score several answers to it.
        answers: Token ids of each row's answer, without special tokens unless they count.
        method: What to score with.
        branch: The contrast branches' inputs, from `method.branches(...)`.

    Returns:
        Log-probs in nats, `-inf` where the method would never have said the token, zero after the
        end; and a mask that is True on each answer's tokens. Sum over tokens for the answer's.

    Raises:
        ValueError: An answer that is empty, text, or not of the model's tokens, or another number
            of answers than of prompts.
    """
    read = _read(model, answers)
    longest = max(map(len, read), default=1)
    ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in read])
    scores = _scores(model, inputs, method, branch, ids)
    mask = torch.arange(longest) < torch.tensor([[len(answer)] for answer in read])
    logps = scores.gather(-1, ids.to(scores.device)[..., None])[..., 0]
    return logps.masked_fill(~mask.to(scores.device), 0.0), mask.to(scores.device)


@torch.no_grad()
def first_token(
    model: nn.Module,
    inputs: Inputs,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
) -> Float[Tensor, "rows vocab"]:
    """Give the method's log-probs, in nats, of every token as the first of the answer.

    Args:
        model: A generating transformers model.
        inputs: The main prompts, left padded.
        method: What to score with.
        branch: The contrast branches' inputs, from `method.branches(...)`.
    """
    check_mapping(inputs, "the main prompt")
    rows = len(inputs["input_ids"])
    return _scores(model, inputs, method, branch, torch.zeros(rows, 1, dtype=torch.long))[:, 0]


def _read(model: nn.Module, answers: Sequence[Sequence[int]]) -> list[list[int]]:
    """Read answers as ids of the model's tokens."""
    try:
        read = [[index(token) for token in answer] for answer in answers]
    except TypeError as error:
        raise ValueError(
            f"answers are lists of token ids, one a prompt, got {answers!r:.80}. Tokenize each: "
            "tokenizer(text, add_special_tokens=False).input_ids."
        ) from error
    if not read:
        raise ValueError("score takes one answer for each prompt, got none.")
    if empty := [number for number, answer in enumerate(read) if not answer]:
        raise ValueError(f"answers {empty} are empty. Give each at least one token.")
    size = vocabulary_size(unwrapped(model))
    for number, answer in enumerate(read):
        if foreign := [token for token in answer if not 0 <= token < size]:
            raise ValueError(
                f"answers are ids of the model's {size} tokens, got {foreign[0]} in answer "
                f"{number}. Tokenize with the model's own tokenizer."
            )
    return read


def _scores(
    model: nn.Module,
    inputs: Inputs,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None,
    answers: Tensor,
) -> Float[Tensor, "rows tokens vocab"]:
    check_method(method)
    whole = method.expert(unwrapped(model))
    sources = resolved(whole, inputs, method, branch)
    rows, count = answers.shape
    if len(sources.main["input_ids"]) != rows:
        raise ValueError(
            f"score takes one answer for each of the {len(sources.main['input_ids'])} prompts, got "
            f"{rows}. Repeat a prompt's row to score several answers to it."
        )
    exits = sources.exits
    expert = BranchRun(whole, sources.main, "the main prompt", hidden=bool(exits))
    logits = [run.prefill(rows, count, answers[:, :-1]) for run in [expert, *sources.runs]]
    if exits:
        check_readable(expert.model, expert.outputs)
    logits += exit_logits(expert.model, expert.outputs, exits, count)
    all_logits = aligned(logits[0], logits[1:], sources.places)
    steps = torch.arange(count, device=all_logits[0].device)[:, None]
    return method.logps(method.at(steps)(*all_logits))
