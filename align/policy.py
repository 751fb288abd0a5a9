"""The model that is trained: loaded, given its adapter, its dropout off; or refused."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoProcessor, BitsAndBytesConfig, PreTrainedTokenizerBase
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import find_adapter_config_file
from trl.trainer.utils import create_model_from_path, get_config_model_id

from .config import PreferenceConfig


def load_processor(model: str | nn.Module, config: PreferenceConfig) -> Any:
    """Load the tokenizer or processor that belongs to a model, without loading the model."""
    name = model if isinstance(model, str) else get_config_model_id(model.config)
    if not name:
        raise ValueError(
            "a model that was made in memory has no tokenizer beside it. Pass processing_class."
        )
    try:
        adapter = saved_adapter(name, config)
        return AutoProcessor.from_pretrained(
            name if adapter is None else adapter.base_model_name_or_path,
            revision=_given(config).get("revision") if adapter is None else adapter.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except OSError as error:
        raise OSError(f"the model {name} can't be read: {error}") from error


def tokenizer_of(processor: Any) -> PreTrainedTokenizerBase:
    """A processor's tokenizer, with something to pad with, which nothing is ever computed from.

    Raises:
        ValueError: There is none, or it knows no end of a completion.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            f"processing_class is a tokenizer or a processor, got {type(processor).__name__}."
        )
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "every completion ends with EOS, but the tokenizer has no eos_token: the policy would "
            "never learn to stop. Set tokenizer.eos_token and save it beside the model."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_quantization(quantized: BitsAndBytesConfig | None, adapter: PeftConfig | None) -> None:
    """Refuse what a quantized model can't do, before anything is loaded.

    Raises:
        ValueError: bitsandbytes isn't there, or the quantized weights themselves would be trained.
    """
    if quantized is None:
        return
    if adapter is None:
        raise ValueError(
            "quantized weights can't be trained, got load_in_4bit or load_in_8bit without an "
            "adapter. Set use_peft: true."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "load_in_4bit and load_in_8bit need bitsandbytes, which isn't installed: pip install "
            "bitsandbytes (it needs a GPU), or leave them out."
        )


def check_attention(config: PreferenceConfig) -> None:
    """Refuse an attention implementation that nobody has, before anything is loaded.

    Raises:
        ValueError: With those that there are.
    """
    name = _given(config).get("attn_implementation")
    others = [one for one in ALL_ATTENTION_FUNCTIONS if not one.startswith(("paged", "contralign"))]
    # With a slash it's a kernel on the hub.
    if isinstance(name, str) and "/" not in name and name not in ("eager", *others):
        raise ValueError(
            f"attn_implementation is one of eager, {', '.join(others)}, or a kernel on the hub, "
            f"got {name!r}. Left out, it's the model's own choice."
        )


def load_policy(
    model: str | nn.Module,
    config: PreferenceConfig,
    adapter: PeftConfig | None = None,
    quantized: BitsAndBytesConfig | None = None,
) -> nn.Module:
    """Load the policy if it is a name, add the adapter, switch dropout off.

    Raises:
        OSError: There is no such model.
        ValueError: Nothing of it would be trained, or it has an adapter already.
    """
    policy: Any = _loaded(model, config, quantized) if isinstance(model, str) else model
    if adapter is not None:
        revision = _given(config).get("revision") if isinstance(model, str) else None
        policy = _with_adapter(policy, adapter, revision)
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ValueError(
            "nothing of the model would be trained: all its parameters are frozen. Load an adapter "
            "with is_trainable=True, or pass a peft_config."
        )
    if config.disable_dropout:
        silence_dropout(policy)
    return policy


def comes_with_adapter(model: Any) -> bool:
    """Whether a model has an adapter that already changes what it says."""
    return is_peft_model(model) and any(
        bool(value.any()) for name, value in model.named_parameters() if "lora_B" in name
    )


def silence_dropout(model: nn.Module) -> None:
    """Switch all dropout off, that of attention included, which is a number of its layer."""
    for module in model.modules():
        for name in _dropouts(module):
            setattr(module, name, 0.0)


def active_dropout(model: nn.Module) -> list[str]:
    """Names of the modules that drop something while training."""
    return [name for name, module in model.named_modules() if _dropouts(module)]


def _dropouts(module: nn.Module) -> list[str]:
    if isinstance(module, nn.Dropout):
        return ["p"] if module.p > 0 else []
    return [
        name
        for name, value in vars(module).items()
        if "dropout" in name and isinstance(value, float) and value > 0
    ]


def loading(config: PreferenceConfig) -> dict[str, Any]:
    """What `from_pretrained` is told of a model that is given by name."""
    return {
        "dtype": "float32",
        "device_map": None,
        "trust_remote_code": config.trust_remote_code,
        **_given(config),
    }


def _loaded(name: str, config: PreferenceConfig, quantized: BitsAndBytesConfig | None) -> Any:
    """A model, or a saved adapter on its base, to go on training it."""
    options = loading(config)
    if quantized is not None:
        options["quantization_config"] = quantized
    adapter = saved_adapter(name, config)
    revision = options.get("revision")
    if adapter is not None:
        # The revision that is asked for is the adapter's; it knows that of its base.
        options["revision"] = adapter.revision
    try:
        base = name if adapter is None else str(adapter.base_model_name_or_path)
        model = create_model_from_path(base, **options)
    except ImportError as error:
        raise ValueError(
            f"{name} can't be loaded: {error} Install it, or choose another attn_implementation."
        ) from error
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ValueError(
            f"model_init_kwargs are of from_pretrained, which doesn't know one of them: {error}."
        ) from error
    if adapter is None:
        return model
    return PeftModel.from_pretrained(model, name, revision=revision, is_trainable=True)


def saved_adapter(name: str, config: PreferenceConfig) -> PeftConfig | None:
    """The config of a saved adapter, which names its base; None for what is no adapter."""
    revision = _given(config).get("revision")
    if find_adapter_config_file(name, revision=revision) is None:
        return None
    found: PeftConfig = PeftConfig.from_pretrained(name, revision=revision)
    return found


def _given(config: PreferenceConfig) -> dict[str, Any]:
    given: Any = config.model_init_kwargs
    return dict(given or {})


def _with_adapter(model: Any, adapter: PeftConfig, revision: str | None) -> nn.Module:
    if is_peft_model(model):
        raise ValueError(
            f"the model has an adapter ({', '.join(model.peft_config)}), and peft_config would put "
            "another on top. To go on training it, leave peft_config (use_peft) out and set "
            "reference: adapter; else merge it first: contralign merge."
        )
    for key in ("target_modules", "modules_to_save"):
        wanted = getattr(adapter, key, None)
        # PEFT is content if one of several names matches.
        if isinstance(wanted, (list, set)) and (odd := _unmatched(model, wanted)):
            raise ValueError(_no_such_layer(model, key, ", ".join(odd)))
    try:
        # Saved without it, the adapter would later be put on the default revision's weights.
        return get_peft_model(model, adapter, revision=revision)
    except ValueError as error:
        if "target" not in str(error).lower():
            raise
        wanted = getattr(adapter, "target_modules", None)
        told = wanted or "none (PEFT knows no default for this model)"
        raise ValueError(_no_such_layer(model, "target_modules", told)) from error


def _unmatched(model: nn.Module, wanted: Iterable[str]) -> list[str]:
    names = [f".{name}" for name, _ in model.named_modules()]
    return sorted(one for one in wanted if not any(name.endswith(f".{one}") for name in names))


def _no_such_layer(model: nn.Module, key: str, wanted: str) -> str:
    way_out = "to all-linear" if key == "target_modules" else "leave it out"
    return (
        f"the adapter's {key.replace('_', ' ')} match no layer of {type(model).__name__}, got "
        f"{wanted}. Its linear layers end in: {', '.join(_linear_names(model))}. Set lora_{key} to "
        f"some of them, or {way_out}."
    )


def _linear_names(model: nn.Module) -> list[str]:
    names = Counter(
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    )
    return [name for name, _ in names.most_common() if not name.isdecimal()]


def autocast_dtype(config: PreferenceConfig) -> torch.dtype | None:
    """What training autocasts to; None if it doesn't."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.mixed_precision)
