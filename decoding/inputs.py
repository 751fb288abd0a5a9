"""Checks on what the user hands to a decoding call, made before any forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .method import Inputs
from .vocabulary import place_ids, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checked(inputs: Inputs, name: str, model: PreTrainedModel, rows: int | None = None) -> Inputs:
    """Return the inputs with an attention mask, or say what is wrong with them.

    Args:
        inputs: What `generate` takes, with `input_ids` of shape `[rows, length]`.
        name: What to call them in an error.
        model: The model that will read them.
        rows: How many rows there must be.

    Raises:
        ValueError: No ids, an empty prompt, no mask for several rows, right padding, or a row
            count other than `rows`.
    """
    check_mapping(inputs, name)
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.dtype not in (torch.long, torch.int):
        raise ValueError(
            f"{name} needs input_ids, a [rows, length] tensor of integers, got {describe(ids)}. "
            "Tokenize with return_tensors='pt', or use contralign.decoding.encode."
        )
    if rows is not None and len(ids) != rows:
        raise ValueError(
            f"{name} must have one row for each of the {rows} main prompts, got {len(ids)}."
        )
    mask = inputs.get("attention_mask")
    if mask is None:
        if len(ids) > 1:
            raise ValueError(
                f"{name} has {len(ids)} rows and no attention_mask, so its padding can't be told "
                "from its text. Pass the mask that the tokenizer returns."
            )
        pad = model.generation_config.pad_token_id
        if pad is not None and (ids == pad).any():
            raise ValueError(
                f"{name} holds the pad token {pad} and no attention_mask, so it can't be told "
                "whether it is padding. Pass the mask that the tokenizer returns."
            )
        mask = torch.ones_like(ids)
    elif not isinstance(mask, Tensor):
        raise ValueError(
            f"{name} needs an attention_mask that is a tensor like input_ids, got {describe(mask)}."
            " Pass the mask that the tokenizer returns."
        )
    _check_padding(mask, ids, name, model)
    _check_tokens(ids, name, model)
    return {**inputs, "attention_mask": mask}


def _check_tokens(ids: Tensor, name: str, model: PreTrainedModel) -> None:
    size = vocabulary_size(model)
    if int(ids.min()) >= 0 and int(ids.max()) < size:
        return
    outside = {x for x in ids.flatten().tolist() if not 0 <= x < size}
    if foreign := sorted(outside - {*place_ids(model)}):
        raise ValueError(
            f"{name} is made of ids of the model's {size} tokens, got {foreign[0]}. Tokenize with "
            "the model's own tokenizer."
        )


def check_mapping(inputs: object, name: str) -> None:
    """Refuse inputs that are no mapping, such as the ids alone.

    Raises:
        ValueError: They are something else.
    """
    if not isinstance(inputs, Mapping):
        raise ValueError(
            f"{name} is a mapping with input_ids and attention_mask, got {describe(inputs)}. Pass "
            "all that the tokenizer returns, or use contralign.decoding.encode."
        )


def _check_padding(mask: Tensor, ids: Tensor, name: str, model: PreTrainedModel) -> None:
    if mask.shape != ids.shape:
        raise ValueError(
            f"{name} needs an attention_mask of the shape of input_ids, {tuple(ids.shape)}, got "
            f"{tuple(mask.shape)}."
        )
    empty = (mask.sum(-1) == 0).nonzero().flatten().tolist()
    if empty or not mask.numel():
        raise ValueError(f"{name} has empty prompts in rows {empty}. Give each at least one token.")
    padded = (mask[:, 1:] < mask[:, :-1]).any(-1).nonzero().flatten().tolist()
    if padded and not model.config.is_encoder_decoder:
        raise ValueError(
            f"{name} must be padded on the left, so that every row's last token stands last, but "
            f"rows {padded} have padding after text. Tokenize with padding_side='left'."
        )


def context_size(model: PreTrainedModel) -> int | None:
    """The most tokens, prompt and answer together, in a model's context, where it says so."""
    if model.config.is_encoder_decoder:
        return None
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)


def check_room(model: PreTrainedModel, length: int, room: int, name: str) -> None:
    """Refuse a prompt of `length` tokens that with `room` new ones outgrows the model's context.

    Raises:
        ValueError: The sum is more than the config's `max_position_embeddings`.
    """
    limit = context_size(model)
    if limit is not None and length + room > limit:
        raise ValueError(
            f"{name} has {length} tokens and up to {room} more are to come, but the model's "
            f"context holds {limit}. Shorten the prompt or lower max_new_tokens."
        )


def as_branches(branch: Inputs | Sequence[Inputs] | None) -> list[Inputs]:
    """Accept one branch's inputs, a list of them, or none."""
    if branch is None:
        return []
    if isinstance(branch, Mapping):
        return [branch]
    if not isinstance(branch, Sequence):
        raise ValueError(
            f"branch is the inputs of a contrast branch, or a list of them, got {describe(branch)}."
            " Build them with method.branches(...)."
        )
    return list(branch)


def describe(value: object) -> str:
    """Say what came instead of what was asked for."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
