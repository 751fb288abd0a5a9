"""Digests of what a completion's log-probs depend on: the base weights, prompt and completion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .adapters import base_tensors
from .batch import Batch
from .support import language_model

# Of a config: what no log-prob depends on, and trainers change.
IRRELEVANT = {
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
    "transformers_version",
    "use_cache",
}


def weights_digest(model: nn.Module) -> str:
    """Digest every byte of the base weights, and the architecture that reads them.

    Adapters and the names that PEFT gives to what it wraps don't count, so one base has one digest
    under LoRA and under full fine-tuning.

    Args:
        model: Not split over processes, nothing offloaded.

    Raises:
        ValueError: Some weights aren't here.
    """
    inner = language_model(model)
    tensors = base_tensors(model)
    split = any(hasattr(parameter, "ds_id") for parameter in inner.parameters())
    if split or any(x.is_meta or isinstance(x, DTensor) for x in tensors.values()):
        raise ValueError(
            "reference: cached reads all base weights before training, but some are split over "
            "processes or offloaded. Set reference: base, or load the model whole."
        )
    names = sorted(tensors)
    with ThreadPoolExecutor(4) as pool:
        digests = list(pool.map(lambda name: tensor_digest(tensors[name]), names))
    whole = blake2b(_architecture(inner), digest_size=16)
    for name, digest in zip(names, digests, strict=True):
        whole.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype} ".encode())
        whole.update(digest)
    return whole.hexdigest()


def known_weights(model: nn.Module) -> str | None:
    """The same; None where some weights aren't here."""
    try:
        return weights_digest(model)
    except ValueError:
        return None


def completion_keys(batch: Batch) -> list[bytes]:
    """Digest each completion with its prompt and the prompt's images, in the order of `flat`."""
    images = batch.images or [{}] * len(batch)
    keys = []
    for prompt, group, image in zip(batch.prompts, batch.completions, images, strict=True):
        context = blake2b(_ids(prompt), digest_size=16)
        for name in sorted(image):
            context.update(f"{name} {tuple(image[name].shape)} {image[name].dtype} ".encode())
            context.update(tensor_digest(image[name]))
        for completion in group:
            key = context.copy()
            key.update(_ids(completion))
            keys.append(key.digest())
    return keys


def tensor_digest(tensor: Tensor) -> bytes:
    """Digest a tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).digest()


def _ids(tokens: Sequence[int]) -> bytes:
    # The count first: where the prompt ends is part of the key.
    return np.array([len(tokens), *tokens], dtype="<i8").tobytes()


def _architecture(model: Any) -> bytes:
    config = _relevant(model.config.to_dict())
    return json.dumps([type(model).__name__, config], sort_keys=True, default=str).encode()


def _relevant(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _relevant(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in IRRELEVANT and not key.startswith("_") and "dropout" not in key
    }
