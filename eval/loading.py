"""Load a model and its tokenizer or processor for measuring, from the hub or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from peft import PeftConfig, PeftModel
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from contralign.decoding.projections import WEIGHTS as PROJECTIONS
from contralign.decoding.readable import readable

CHAT = ("auto", "on", "off")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def check_dtype(dtype: str) -> None:
    """Refuse a dtype that is not one of `DTYPES`.

    Raises:
        ValueError: It's another.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")


def check_names(name: str, adapter: str | None, revision: str | None = None) -> None:
    """Refuse names that hold something else than what they stand for, before weights are read.

    Raises:
        ValueError: A folder without a model, a revision of a folder, a model or an adapter that is
            neither here nor on the hub.
    """
    for given in (name, adapter):
        if given is not None and Path(given, PROJECTIONS).is_file():
            raise ValueError(
                f"{given} holds projections of `contralign train dcd`, neither a model nor an "
                f"adapter. Name their model, and decode with --method dcd:path={given}."
            )
    _check_model(name, revision)
    if adapter is not None:
        _check_adapter(adapter)


def _check_model(name: str, revision: str | None) -> None:
    if Path(name).is_dir():
        _check_folder(Path(name), revision)
    with readable("a model", name):
        AutoConfig.from_pretrained(name, revision=revision)


def _check_folder(folder: Path, revision: str | None) -> None:
    if revision is not None:
        raise ValueError(
            f"a revision is of a repository on the hub, got revision {revision} of the folder "
            f"{folder}. Leave it out."
        )
    if (folder / "config.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder} holds an adapter, not a model. Name its base as the model and {folder} as "
            "the adapter, or merge the two: contralign merge."
        )
    raise ValueError(f"a model's folder holds a config.json, but {folder} doesn't.")


def _check_adapter(adapter: str) -> None:
    if Path(adapter, "config.json").is_file():
        raise ValueError(
            f"{adapter} holds a whole model, not an adapter: training without use_peft writes one. "
            "Name it as the model."
        )
    with readable("an adapter", adapter):
        PeftConfig.from_pretrained(adapter)


def load_processor(name: str, revision: str | None) -> Any:
    """Load a model's tokenizer, or the processor of a model with eyes, with a pad token."""
    kind = AutoProcessor if has_eyes(name, revision) else AutoTokenizer
    with readable("a tokenizer or processor", name):
        processor = kind.from_pretrained(name, revision=revision)
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def load_weights(
    name: str, revision: str | None, dtype: str, device: str | None, adapter: str | None
) -> Any:
    """Load a model for inference, with an adapter on top if one is named."""
    kind = AutoModelForImageTextToText if has_eyes(name, revision) else AutoModelForCausalLM
    device_map = device or str(PartialState().device)
    with readable("a model", name):
        model: Any = kind.from_pretrained(
            name, revision=revision, dtype=dtype, device_map=device_map
        )
    if adapter is not None:
        with readable(f"an adapter of {name}", adapter):
            model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def has_eyes(name: str, revision: str | None) -> bool:
    """Whether the model reads pictures beside text."""
    config = AutoConfig.from_pretrained(name, revision=revision)
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def uses_chat(chat: str, has_template: bool) -> bool:
    """Whether to ask through the chat template.

    Raises:
        ValueError: An unknown setting, or "on" without a template.
    """
    if chat not in CHAT:
        raise ValueError(f"chat must be one of {', '.join(CHAT)}, got {chat!r}.")
    if chat == "on" and not has_template:
        raise ValueError(
            "chat='on' needs a chat template, and this tokenizer has none. Use chat='auto' or an "
            "instruction-tuned model."
        )
    return has_template and chat != "off"
