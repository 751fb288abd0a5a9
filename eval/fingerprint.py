"""What an answer depends on besides its prompt: the weights, and what computes with them."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers
from torch import Tensor

SAMPLED = 64


def fingerprint(model: Any) -> dict[str, Any]:
    """Identify a loaded model.

    Returns:
        Name (of a local folder its last part: the digest tells folders apart), commit, dtype,
        attention implementation, digest of the weights, and the versions of torch and transformers.
    """
    config = model.config
    name = str(config._name_or_path)
    return {
        "name": Path(name).resolve().name if Path(name).is_dir() else name,
        "commit": getattr(config, "_commit_hash", None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": config._attn_implementation,
        "weights": weights_digest(model),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def image_processing(processor: Any) -> dict[str, Any]:
    """Identify how a processor turns pictures into numbers.

    Returns:
        A digest of its image processor's settings, and the version of Pillow.
    """
    written = processor.image_processor.to_json_string()
    return {
        "image_processor": blake2b(written.encode(), digest_size=16).hexdigest(),
        "pillow": PIL.__version__,
    }


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
