"""A digest of weights, which tells models of one name apart."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

SAMPLED = 64


def weights_digest(model: Any) -> str:
    """Digest every tensor's name, shape, dtype and up to 64 of its values, evenly spaced.

    Training moves all of a tensor's values, so the sample notices it; values that were offloaded to
    the disk are left out.
    """
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if not tensor.is_meta:
            digest.update(_sampled(tensor).numpy().tobytes())
    return digest.hexdigest()


def _sampled(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    count = min(len(flat), SAMPLED)
    where = torch.linspace(0, len(flat) - 1, count, dtype=torch.float64).long()
    return flat[where.to(flat.device)].double().cpu()
