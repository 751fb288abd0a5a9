"""Closed answers, read off the first token: yes or no, A to D."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .calibration import Calibration
from .divergence import log_probs
from .inputs import as_branches
from .method import Inputs, Method
from .plain import Plain
from .scoring import first_token


def surface_forms(tokenizer: Any, labels: Sequence[str]) -> list[list[int]]:
    """Find the tokens that say each label: decoded, stripped and lower-cased they are equal.

    Args:
        tokenizer: The model's.
        labels: Different answers of one token each.

    Raises:
        ValueError: Two labels are said the same, or no token says one.
    """
    plain = [label.strip().lower() for label in labels]
    repeated = sorted({label for label in plain if plain.count(label) > 1})
    if repeated:
        raise ValueError(f"labels differ in more than case and blanks, got {repeated} twice.")
    spoken = _spoken(tokenizer)
    silent = [label for label, text in zip(labels, plain, strict=True) if text not in spoken]
    if silent:
        raise ValueError(
            f"no single token says {silent}. Use labels of one token, or score, which takes "
            "answers of several."
        )
    return [list(spoken[text]) for text in plain]


@torch.no_grad()
def closed(
    model: nn.Module,
    inputs: Inputs,
    forms: Sequence[Sequence[int]],
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
) -> tuple[Float[Tensor, "rows labels"], Bool[Tensor, " rows"]]:
    """Weigh labels by the first token that the method would say.

    Args:
        model: A generating transformers model.
        inputs: The main prompts, left padded.
        forms: The ids that say each label, from `surface_forms`.
        method: What to weigh with.
        branch: The contrast branches' inputs, from `method.branches(...)`.

    Returns:
        Log-probs over the labels, in nats; and whether each row could be weighed as the method
        says. A row in which `Calibration` does not find every label is left as the model has it,
        and one in which no label may be said is even.
    """
    if not isinstance(method, Calibration):
        logps = first_token(model, inputs, method, branch)
        added = torch.stack([logps[:, list(ids)].logsumexp(-1) for ids in forms], dim=-1)
        return log_probs(added), ~added.isneginf().all(-1)
    method.sources(model, inputs, as_branches(branch))
    read = [first_token(model, given, Plain()) for given in [inputs, *as_branches(branch)]]
    (seen, *unseen), found = zip(*(method.labels(x, forms) for x in read), strict=True)
    complete = torch.stack(found).all(dim=0)
    logps = log_probs(seen)
    if complete.any():
        logps[complete] = method.debiased(seen[complete], [x[complete] for x in unseen])
    return logps, complete


@lru_cache(maxsize=2)
def _spoken(tokenizer: Any) -> dict[str, tuple[int, ...]]:
    """Every text that one token says, with the ids that say it."""
    ids = range(len(tokenizer))
    said: dict[str, tuple[int, ...]] = {}
    for token, written in zip(ids, tokenizer.batch_decode([[x] for x in ids]), strict=True):
        text = written.strip().lower()
        said[text] = (*said.get(text, ()), token)
    return said
