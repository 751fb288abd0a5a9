"""What an answer depends on besides its prompt: the weights, and what computes with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers

from contralign.decoding.digest import weights_digest


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


def reading(processor: Any, ends: int | Sequence[int]) -> dict[str, Any]:
    """Identify what turns prompts into ids and ids into answers.

    Args:
        processor: Tokenizer or processor.
        ends: The tokens that end an answer.

    Returns:
        A digest of the tokenizer, the chat template and the ends.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        # Calls leave their padding and truncation behind in it.
        said = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    else:
        said = tokenizer.get_vocab()
    written = json.dumps([said, processor.chat_template, ends], sort_keys=True)
    return {"tokenizer": blake2b(written.encode(), digest_size=16).hexdigest()}
