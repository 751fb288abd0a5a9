"""Reward models: sequence classifiers with one logit, whole or as an adapter on a base."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import find_adapter_config_file
from trl.trainer.reward_trainer import suppress_seqcls_warning

from ..adapters import with_adapter
from ..reference_keys import tensor_digest

DTYPES = ("auto", "float32", "bfloat16", "float16")
TRAIN = "`contralign train reward` makes a reward model of it"


@dataclass(frozen=True)
class Source:
    """Where a reward model is.

    Attributes:
        name: Hub id or folder of the model, or of the adapter's base.
        revision: Of that.
        adapter: Hub id or folder of the adapter, if it is one.
    """

    name: str
    revision: str | None = None
    adapter: str | None = None


def find(name: str, revision: str | None = None) -> Source:
    """Look at a reward model without its weights.

    Raises:
        OSError: Nothing is there.
        ValueError: It's no sequence classifier with one logit.
    """
    place = Path(name).expanduser()
    if (name.startswith((".", "/", "~")) or place.exists()) and not place.is_dir():
        raise ValueError(f"a reward model is a hub id or a folder, got {name}, which is neither.")
    name = str(place) if place.is_dir() else name
    if find_adapter_config_file(name, revision=revision) is not None:
        adapter = PeftConfig.from_pretrained(name, revision=revision)
        _check_adapter(name, adapter)
        return Source(str(adapter.base_model_name_or_path), adapter.revision, name)
    _check_config(name, AutoConfig.from_pretrained(name, revision=revision))
    return Source(name, revision)


def load_tokenizer(source: Source) -> Any:
    """The reward model's own tokenizer, with something to pad with."""
    tokenizer = _own_tokenizer(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_classifier(source: Source, dtype: str, device: str, pad_token_id: int | None) -> nn.Module:
    """Load a reward model for inference.

    Args:
        source: What `find` returned.
        dtype: Of the weights; "auto" as they were saved.
        device: Where to.
        pad_token_id: The reward is read at the last token that isn't this one.

    Raises:
        ValueError: Weights are missing, such as those of the head.
    """
    with nullcontext() if source.adapter is None else suppress_seqcls_warning():
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source.name,
            revision=source.revision,
            dtype=dtype,
            num_labels=1,
            output_loading_info=True,
        )
    if source.adapter is not None:
        model = with_adapter(model, source.adapter)
    elif found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        raise ValueError(
            f"{source.name} lacks weights of its classifier ({missing}), so its rewards would be "
            f"random. Take a reward model; {TRAIN}."
        )
    model.config.get_text_config().pad_token_id = pad_token_id
    model.config.get_text_config().use_cache = False
    return model.to(device).eval()


def whole_digest(model: nn.Module) -> str:
    """Digest every weight of a model, its adapter's too."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor_digest(tensor))
    return digest.hexdigest()


def longest(model_config: Any, tokenizer: Any) -> int | None:
    """How many tokens a reward model can read; None if it doesn't say."""
    context = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    limits = [limit for limit in (context, tokenizer.model_max_length) if limit is not None]
    return min(limits) if limits and min(limits) < 1e9 else None


def read_config(source: Source) -> Any:
    """The config of the model, or of the adapter's base."""
    return AutoConfig.from_pretrained(source.name, revision=source.revision)


def _own_tokenizer(source: Source) -> Any:
    if source.adapter is not None and Path(source.adapter, "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(source.adapter)
    return AutoTokenizer.from_pretrained(source.name, revision=source.revision)


def _check_config(name: str, config: Any) -> None:
    kinds = config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ValueError(
            f"a reward model is a sequence classifier, but {name} is a "
            f"{', '.join(kinds) or config.model_type} without a classifier's head. Take a reward "
            f"model; {TRAIN}."
        )
    if config.num_labels != 1:
        raise ValueError(
            f"a reward model has one logit, but {name} has num_labels={config.num_labels} "
            f"({', '.join(map(str, config.id2label.values()))}). Take one with num_labels=1, or "
            "choose a logit in a function of your own: reward_funcs."
        )


def _check_adapter(name: str, adapter: Any) -> None:
    """An adapter brings the head that its base lacks."""
    if adapter.task_type != "SEQ_CLS":
        raise ValueError(
            f"the adapter {name} is for {adapter.task_type or 'no task'}, not for SEQ_CLS, so it "
            f"has no classifier's head. Take a reward model's adapter; {TRAIN}."
        )
