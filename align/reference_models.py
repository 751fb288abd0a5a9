"""A reference that is loaded: another model, or another adapter on the policy's base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from torch import nn
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import find_adapter_config_file
from trl.trainer.utils import create_model_from_path

from .adapters import (
    REFERENCE,
    load_reference_adapter,
    mutates_base,
    refuse_trained_base,
    with_adapter,
)
from .support import language_model, learns_prompt

KINDS = "reference is base, adapter, cached, none, or the folder or hub id of a model or an adapter"


def load_reference(
    path: str, policy: Any, tokenizer: Any, load: Mapping[str, Any]
) -> nn.Module | None:
    """Load a model, with its adapter if the path is an adapter's.

    Args:
        path: A folder or hub id.
        policy: The model that will be held against it; gives dtype and attention implementation.
        tokenizer: The policy's tokenizer or processor, or None.
        load: Options that the policy was loaded with; its revision is of its own repository.

    Returns:
        The model; None where an adapter of the policy's own base was put beside the policy's.

    Raises:
        OSError: Nothing to load is there.
        ValueError: It has another vocabulary, or the adapter doesn't fit.
    """
    path = str(Path(path).expanduser())
    adapter, base, config = find_reference(path, load)
    load = {**load, "revision": None if adapter is None else adapter.revision}
    refuse_other_vocabulary(config, policy, path)
    if adapter is not None and _same_base(adapter, policy):
        refuse_trained_base(policy)
        load_reference_adapter(policy, path)
        return None
    if tokenizer is not None:
        _refuse_other_tokens(base, tokenizer)
    inner = language_model(policy)
    like = {"dtype": inner.dtype, "attn_implementation": inner.config._attn_implementation}
    model: nn.Module = create_model_from_path(base, **{**load, **like, "device_map": None})
    return model if adapter is None else with_adapter(model, path)


def find_reference(path: str, load: Mapping[str, Any]) -> tuple[PeftConfig | None, str, Any]:
    """Look at what a reference is, without its weights.

    Args:
        path: A folder or hub id.
        load: Options that the policy is loaded with.

    Returns:
        The adapter's config if it is one, the model's name, and the model's config.

    Raises:
        OSError: Nothing to load is there.
        ValueError: It's a path, but no folder's.
    """
    place = Path(path).expanduser()
    if (path.startswith((".", "/", "~")) or place.exists()) and not place.is_dir():
        raise ValueError(f"{KINDS}, got {path!r}, which is no folder.")
    adapter = _adapter_config(str(place), load)
    base = str(place) if adapter is None else str(adapter.base_model_name_or_path)
    revision = None if adapter is None else adapter.revision
    return adapter, base, _model_config(base, {**load, "revision": revision})


def refuse_other_vocabulary(config: Any, policy: Any, name: str) -> None:
    """Refuse a model that has more or fewer tokens than the policy.

    Raises:
        ValueError: With both sizes.
    """
    configs = (language_model(policy).config, config)
    ours, theirs = (one.get_text_config(decoder=True).vocab_size for one in configs)
    if ours != theirs:
        raise ValueError(
            f"policy and reference must share one vocabulary, but they have {ours} and {theirs} "
            f"tokens ({name}). Take a reference of the same model family."
        )


def _refuse_other_tokens(path: str, tokenizer: Any) -> None:
    """Refuse a model folder whose tokenizer numbers the tokens in another way."""
    try:
        theirs = AutoTokenizer.from_pretrained(path).get_vocab()
    except (OSError, ValueError):  # a model folder saved without its tokenizer
        return
    ours = getattr(tokenizer, "tokenizer", tokenizer).get_vocab()
    if ours != theirs:
        raise ValueError(
            f"policy and reference must share one tokenizer, but theirs differ ({len(ours)} and "
            f"{len(theirs)} tokens, {path}). Take a reference of the same model family."
        )


def _model_config(name: str, load: Mapping[str, Any]) -> Any:
    hub = {key: load[key] for key in ("revision", "token", "trust_remote_code") if key in load}
    try:
        return AutoConfig.from_pretrained(name, **hub)
    except OSError as error:
        raise OSError(f"{KINDS}, got {name!r}: {error}") from error


def _adapter_config(path: str, load: Mapping[str, Any]) -> PeftConfig | None:
    if find_adapter_config_file(path, token=load.get("token")) is None:
        return None
    return PeftConfig.from_pretrained(path, token=load.get("token"))


def _same_base(adapter: PeftConfig, policy: Any) -> bool:
    """Whether the adapter can stand beside the policy's, on the weights that are in memory."""
    if not isinstance(policy, PeftModel) or learns_prompt(policy):
        return False
    ours = policy.active_peft_config
    return (
        adapter.peft_type == ours.peft_type
        and adapter.revision == ours.revision
        and REFERENCE not in policy.peft_config
        and not (mutates_base(ours) or mutates_base(adapter))
        and _resolved(ours.base_model_name_or_path) == _resolved(adapter.base_model_name_or_path)
    )


def _resolved(name: str | None) -> str:
    path = Path(name or "")
    return str(path.resolve()) if name and path.exists() else str(name)
