"""An adapter merged into its base model, as a plain model folder.

The base is loaded anew and merged in memory that nobody else uses; its folder is only read. Sums
are made in float32, layer by layer, and rounded once to the dtype that is saved.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import PeftConfig, PeftModel, load_peft_weights
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, ProcessorMixin
from trl.trainer.utils import create_model_from_path

import contralign
from contralign.decoding.checks import one_of
from contralign.decoding.projections import WEIGHTS as PROJECTIONS

from .adapters import with_adapter
from .card import use

DTYPES = ("auto", "float32", "bfloat16", "float16")
PROCESSORS = ("processor_config.json", "preprocessor_config.json")


def merge(adapter: Path, output: Path, *, dtype: str = "auto") -> None:
    """Write the model that an adapter makes of its base.

    Args:
        adapter: A folder that PEFT saved.
        output: A new or empty folder: weights, config, the tokenizer or processor and a model
            card, all or none.
        dtype: Of the saved weights; "auto" as the base was saved.

    Raises:
        OSError: The base or its tokenizer can't be read, or the output can't be written.
        ValueError: The folder holds no adapter, one that can't be merged or of another base, or
            the output folder is in use.
    """
    one_of("dtype", dtype, DTYPES)
    config = _config(adapter)
    _refuse_used(output)
    base = _base(adapter, config)
    processor = _processor(adapter, base, config.revision)
    model = create_model_from_path(base, dtype=dtype, device_map=None, revision=config.revision)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    _fit_embeddings(model, adapter)
    merged = _merged(with_adapter(model, str(adapter)), config)
    for name, tensor in merged.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(dtypes.get(name, tensor.dtype))
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        whole = Path(scratch, "merged")
        merged.save_pretrained(whole)
        processor.save_pretrained(whole)
        told = _card(adapter, base, output, isinstance(processor, ProcessorMixin))
        (whole / "README.md").write_text(told, encoding="utf-8")
        if output.exists():
            output.rmdir()
        whole.rename(output)


def _card(adapter: Path, base: str, output: Path, sees: bool) -> str:
    """The model card: what was merged, how to use it, and how the adapter's card says it came."""
    told = (
        f"---\nlibrary_name: transformers\ntags:\n- contralign\n---\n\n"
        f"# {adapter.resolve().name}, merged\n\n`{base}` with the adapter `{adapter}` merged into "
        f"its weights by contralign {contralign.__version__} (`contralign merge`).\n\n"
        f"{use(str(output), sees=sees)}\n"
    )
    own = adapter / "README.md"
    if not own.is_file():
        return told
    body = re.sub(r"\A---\n.*?\n---\n", "", own.read_text(encoding="utf-8"), flags=re.DOTALL)
    body = re.sub(r"^## Use\n.*?(?=^## |\Z)", "", body, flags=re.DOTALL | re.MULTILINE)
    return f"{told}\nThe adapter's card:\n\n{body.replace('![curves](curves.png)', '').strip()}\n"


def _config(adapter: Path) -> PeftConfig:
    if (adapter / PROJECTIONS).is_file():
        raise ValueError(
            f"{adapter} holds projections of `contralign train dcd`: there is nothing to merge, as "
            f"they replace nothing in their model. Decode with --method dcd:path={adapter}."
        )
    if (adapter / "config.json").is_file():
        raise ValueError(
            f"{adapter} holds a whole model, as training without use_peft writes: there is nothing "
            f"to merge. Use it as it is: --model {adapter}."
        )
    if not (adapter / "adapter_config.json").is_file():
        raise ValueError(
            f"an adapter is a folder that PEFT saved, but {adapter} holds no adapter_config.json. "
            "Name the folder that training wrote."
        )
    config = PeftConfig.from_pretrained(str(adapter))
    if config.task_type == "SEQ_CLS":
        raise ValueError(
            f"{adapter} is a reward model's adapter, whose head no language model has. Use it "
            "unmerged, as reward_model_name_or_path."
        )
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise ValueError(
            f"{config.peft_type.value} adds tokens, not weights, so it can't be merged into a "
            "model. Keep using the adapter on its base."
        )
    return config


def _refuse_used(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is in use. Choose a new or empty output folder.")


def _base(adapter: Path, config: PeftConfig) -> str:
    name = config.base_model_name_or_path
    if not name:
        raise ValueError(
            f"{adapter / 'adapter_config.json'} doesn't say what its base is. Write the base "
            "model's folder or hub id into base_model_name_or_path."
        )
    base = AutoConfig.from_pretrained(name, revision=config.revision)
    if getattr(base, "quantization_config", None) is not None:
        raise ValueError(
            f"the base {name} is quantized, and merging would round the adapter away. Write the "
            f"model it was made from into base_model_name_or_path of {adapter}."
        )
    return str(name)


def _processor(adapter: Path, base: str, revision: str | None) -> Any:
    """What was saved with the adapter, and what wasn't, from the base."""
    if any((adapter / name).is_file() for name in PROCESSORS):
        return AutoProcessor.from_pretrained(adapter)
    saved = (adapter / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapter) if saved else None
    try:
        processor = AutoProcessor.from_pretrained(base, revision=revision)
    except (OSError, ValueError):
        if tokenizer is None:
            raise
        return tokenizer
    if tokenizer is not None and isinstance(processor, ProcessorMixin):
        processor.tokenizer = tokenizer
        return processor
    return tokenizer or processor


def _fit_embeddings(model: Any, adapter: Path) -> None:
    """Make room for tokens that were added in training, if the adapter brings their embeddings."""
    own = model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is own)
    for key, value in load_peft_weights(str(adapter), device="cpu").items():
        plain = key.replace(".token_adapter", "").replace(".base_layer", "")
        if plain == f"base_model.model.{name}" and len(value) != len(own):
            model.resize_token_embeddings(len(value), mean_resizing=False)


def _merged(model: PeftModel, config: PeftConfig) -> Any:
    _untie(model)
    try:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                merge_layer(module)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="All adapters are already merged")
            return model.merge_and_unload()
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"PEFT can't merge this {config.peft_type.value} adapter ({error}). Keep using it on "
            "its base."
        ) from error


def _untie(model: PeftModel) -> None:
    """Give the layers that are merged weights of their own, where another module has the same."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            base = layer.get_base_layer()
            for name, parameter in base.named_parameters(recurse=False):
                if uses[id(parameter)] > 1:
                    setattr(base, name, nn.Parameter(parameter.data.clone()))
                    model.config.get_text_config().tie_word_embeddings = False


def merge_layer(layer: BaseTunerLayer) -> None:
    """Merge a layer's adapter into its weights, summed in float32 and rounded once."""
    dtypes = [(parameter, parameter.dtype) for parameter in layer.get_base_layer().parameters()]
    layer.float()
    layer.merge(safe_merge=True)
    for parameter, dtype in dtypes:
        parameter.data = parameter.data.to(dtype)
