"""The model that is trained: loaded as told, adapted where it can be, silent; or refused."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import GPT2, GROUPED, MODELS, made, ragged
from align_policies import LORA, moved, policy, trained
from align_runs import config
from align_tokenizers import words
from align_vlms import tiny_llava
from eval_doubles import tiny_llama
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig
from transformers import LlamaForCausalLM as Llama

from contralign.align import policy as policy_module
from contralign.align.engine import Engine
from contralign.align.policy import (
    active_dropout,
    autocast_dtype,
    check_attention,
    check_quantization,
    comes_with_adapter,
    load_policy,
    load_processor,
    loading,
    saved_adapter,
    silence_dropout,
    tokenizer_of,
)

QUANTIZED = BitsAndBytesConfig(load_in_4bit=True)


@pytest.fixture
def adapter_folder(tmp_path: Path, model_folder: Path) -> Path:
    """A saved adapter that says something, on the model of `model_folder`."""
    model = load_policy(str(model_folder), config(tmp_path), LoraConfig(**LORA))
    moved(model)
    assert isinstance(model, PeftModel)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_the_processor_is_that_of_the_model_or_of_an_adapters_base(
    tmp_path: Path, model_folder: Path, adapter_folder: Path
) -> None:
    options = config(tmp_path)
    loaded = Llama.from_pretrained(model_folder)
    for model in (str(model_folder), loaded, str(adapter_folder)):
        assert load_processor(model, options).get_vocab()["z"] == 29


def test_a_model_made_in_memory_has_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"made in memory has no tokenizer .* processing_class"):
        load_processor(tiny_llama(), config(tmp_path))


def test_a_tokenizer_pads_with_something() -> None:
    assert tokenizer_of(words()).pad_token == "<pad>"
    assert tokenizer_of(words(pad_token=None)).pad_token == "<eos>"
    _, processor = tiny_llava()
    assert tokenizer_of(processor) is processor.tokenizer


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (words(eos_token=None), "the tokenizer has no eos_token"),
        (nn.Linear(1, 1), "processing_class is a tokenizer or a processor, got Linear."),
    ],
)
def test_a_tokenizer_that_cannot_end_a_completion_is_refused(processor: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        tokenizer_of(processor)
    assert message in str(refusal.value)


def test_quantized_weights_need_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ValueError, match="need bitsandbytes, which isn't installed"):
        check_quantization(QUANTIZED, LoraConfig(**LORA))
    with pytest.raises(ValueError, match="without an adapter"):  # installing it would not help
        check_quantization(QUANTIZED, None)
    check_quantization(None, None)


def test_quantized_weights_need_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bitsandbytes").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    check_quantization(QUANTIZED, LoraConfig(**LORA))
    with pytest.raises(ValueError, match=r"without an adapter. Set use_peft: true"):
        check_quantization(QUANTIZED, None)


@pytest.mark.parametrize("name", [None, "eager", "sdpa", "kernels-community/flash-attn"])
def test_an_attention_that_there_is(tmp_path: Path, name: str | None) -> None:
    check_attention(config(tmp_path, model_init_kwargs={"attn_implementation": name}))


@pytest.mark.parametrize("name", ["sdpaa", "contralign", "paged|sdpa"])
def test_an_attention_that_nobody_has_is_refused(tmp_path: Path, name: str) -> None:
    options = config(tmp_path, model_init_kwargs={"attn_implementation": name})
    with pytest.raises(ValueError, match=r"one of eager, .*sdpa, .*or a kernel") as refusal:
        check_attention(options)
    assert f"got {name!r}" in str(refusal.value)


def test_a_folder_is_loaded_to_train_all_of_it(tmp_path: Path, model_folder: Path) -> None:
    model: Any = load_policy(str(model_folder), config(tmp_path))
    assert model.dtype == torch.float32
    assert trained(model) == [name for name, _ in model.named_parameters()]


def test_an_adapter_is_put_on_top(tmp_path: Path) -> None:
    base = tiny_llama()
    model = load_policy(base, config(tmp_path), LoraConfig(**LORA))
    assert isinstance(model, PeftModel)
    assert model.get_base_model() is base
    assert all("lora_" in name for name in trained(model))


def test_a_saved_adapter_goes_on_training(tmp_path: Path, adapter_folder: Path) -> None:
    model: Any = load_policy(str(adapter_folder), config(tmp_path))
    assert trained(model)
    assert all("lora_" in name for name in trained(model))
    saved = load_file(adapter_folder / "adapter_model.safetensors")
    held = get_peft_model_state_dict(model)
    assert held.keys() == saved.keys()
    assert all(torch.equal(held[name], saved[name]) for name in saved)
    assert comes_with_adapter(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_modules": ["q_prj", "v_proj", "out"]},
            "the adapter's target modules match no layer of LlamaForCausalLM, got out, q_prj. Its "
            "linear layers end in: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, "
            "lm_head. Set lora_target_modules to some of them, or to all-linear.",
        ),
        (
            {"target_modules": "q_prj"},
            "target modules match no layer of LlamaForCausalLM, got q_pr",
        ),
        (
            {"modules_to_save": ["head"]},
            "modules to save match no layer of LlamaForCausalLM, got h",
        ),
        (
            {"modules_to_save": ["head"]},
            "Set lora_modules_to_save to some of them, or leave it out",
        ),
    ],
)
def test_an_adapter_that_fits_no_layer_is_refused_with_the_layers_there_are(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        load_policy(tiny_llama(), config(tmp_path), LoraConfig(**{**LORA, **options}))
    assert message in str(refusal.value)


def test_a_model_that_peft_does_not_know_needs_target_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaConfig, "model_type", "unheard-of")
    with pytest.raises(ValueError, match=r"got none \(PEFT knows no default for this model\)"):
        load_policy(tiny_llama(), config(tmp_path), LoraConfig(task_type="CAUSAL_LM"))


def test_other_mistakes_are_told_in_pefts_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`r` should be a positive integer"):
        load_policy(tiny_llama(), config(tmp_path), LoraConfig(**{**LORA, "r": 0}))


@pytest.mark.parametrize("target", ["all-linear", ".*q_proj", ["self_attn.q_proj", "lm_head"]])
def test_layers_may_be_named_in_any_way_that_peft_knows(tmp_path: Path, target: Any) -> None:
    options = LoraConfig(**{**LORA, "target_modules": target, "modules_to_save": ["norm"]})
    assert trained(load_policy(tiny_llama(), config(tmp_path), options))


def test_a_model_with_an_adapter_takes_no_second_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the model has an adapter \(default\).*contralign merge"):
        load_policy(policy(), config(tmp_path), LoraConfig(**LORA))


def test_a_frozen_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"all its parameters are frozen\. Load an adapter with"):
        load_policy(tiny_llama().requires_grad_(False), config(tmp_path))


def test_what_is_not_there_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="couldn't connect"):
        load_policy("no-such/model", config(tmp_path))


def test_an_option_that_from_pretrained_does_not_know_is_told(
    tmp_path: Path, model_folder: Path
) -> None:
    options = config(tmp_path, model_init_kwargs={"dtypes": "float32"})
    with pytest.raises(ValueError, match=r"model_init_kwargs are of from_pretrained, .*'dtypes'"):
        load_policy(str(model_folder), options)


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash_attn is installed")
def test_an_attention_that_is_not_installed_is_told(tmp_path: Path, model_folder: Path) -> None:
    options = config(tmp_path, model_init_kwargs={"attn_implementation": "flash_attention_2"})
    with pytest.raises(ValueError, match=r"can't be loaded: .*or choose another attn_implement"):
        load_policy(str(model_folder), options)


def numbers(model: nn.Module) -> dict[str, Any]:
    """All numbers of its modules but the dropouts."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, (int, float)) and "drop" not in key and key != "p"
    }


DROPPING: dict[str, Any] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "llama": lambda: Llama(LlamaConfig(**GROUPED, attention_dropout=0.3)),
    "lora": lambda: policy(lora_dropout=0.5),
}


@pytest.mark.parametrize("name", DROPPING)
def test_all_dropout_is_silenced_and_nothing_else(name: str) -> None:
    model = DROPPING[name]().train()
    before = numbers(model)
    engine = Engine(model, "padded")
    assert active_dropout(model)
    assert not torch.equal(engine(ragged()).logps, engine(ragged()).logps)
    silence_dropout(model)
    assert active_dropout(model) == []
    assert torch.equal(engine(ragged()).logps, engine(ragged()).logps)
    assert numbers(model) == before


def test_what_drops_is_named() -> None:
    assert active_dropout(DROPPING["llama"]()) == [
        "model.layers.0.self_attn",
        "model.layers.1.self_attn",
    ]
    assert active_dropout(nn.Sequential(nn.Dropout(0.0), nn.Dropout(0.1), nn.Linear(1, 1))) == ["1"]


@pytest.mark.parametrize("off", [True, False])
def test_dropout_stays_on_where_it_is_wanted(tmp_path: Path, off: bool) -> None:
    model = load_policy(DROPPING["llama"](), config(tmp_path, disable_dropout=off))
    assert (active_dropout(model) == []) is off


def test_an_adapter_speaks_once_its_second_matrix_is_not_zero() -> None:
    assert not comes_with_adapter(made(MODELS["llama"]))
    assert not comes_with_adapter(get_peft_model(tiny_llama(), LoraConfig(**LORA)))
    assert comes_with_adapter(policy())


def test_an_adapters_folder_names_its_base(
    tmp_path: Path, model_folder: Path, adapter_folder: Path
) -> None:
    adapter = saved_adapter(str(adapter_folder), config(tmp_path))
    assert adapter is not None
    assert adapter.base_model_name_or_path == str(model_folder)
    assert saved_adapter(str(model_folder), config(tmp_path)) is None


def test_the_revision_that_is_asked_for_is_the_adapters(
    tmp_path: Path, adapter_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = adapter_folder / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "revision": "of-the-base"}))
    asked, load = [], policy_module.create_model_from_path

    def loaded(name: str, **options: Any) -> Any:
        asked.append(options["revision"])
        return load(name, **options)

    monkeypatch.setattr(policy_module, "create_model_from_path", loaded)
    load_policy(str(adapter_folder), config(tmp_path, model_init_kwargs={"revision": "v2"}))
    assert asked == ["of-the-base"]


def test_a_saved_adapter_names_its_bases_revision(tmp_path: Path, model_folder: Path) -> None:
    given = config(tmp_path, model_init_kwargs={"revision": "v2"})
    made: Any = load_policy(str(model_folder), given, LoraConfig(**LORA))
    made.save_pretrained(tmp_path / "adapter")
    found = saved_adapter(str(tmp_path / "adapter"), config(tmp_path))
    assert found is not None
    assert found.revision == "v2"


def test_what_is_asked_for_goes_before_what_is_usual(tmp_path: Path) -> None:
    usual = {"dtype": "float32", "device_map": None, "trust_remote_code": True}
    assert loading(config(tmp_path, trust_remote_code=True)) == usual
    asked = {"dtype": "bfloat16", "device_map": "auto", "revision": "v2"}
    options = config(tmp_path, trust_remote_code=True, model_init_kwargs=asked)
    assert loading(options) == {**usual, **asked}


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({}, None), ({"bf16": True}, torch.bfloat16), ({"fp16": True}, torch.float16)],
)
def test_training_autocasts_as_it_is_told(
    tmp_path: Path, options: dict[str, Any], dtype: torch.dtype | None
) -> None:
    assert autocast_dtype(config(tmp_path, **options)) == dtype
