"""Merging: the same model in one piece, from a base that is only read, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from align_models import MODELS, TINY, made, tokens
from align_policies import moved
from align_vlms import byte_tokenizer, tiny_llava
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from torch import Tensor

from contralign.align.merge import DTYPES, merge

IDS = torch.tensor([tokens(11, 1)])
SAVES_EMBEDDINGS = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
LORA: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ["q_proj", "down_proj"]},
    "rslora": {"target_modules": ["q_proj", "lm_head"], "use_rslora": True},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "embeddings": {"target_modules": ["embed_tokens"], "modules_to_save": ["lm_head"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]},
    "pissa": {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
}


def saved_base(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    model = made(MODELS["llama"]).to(dtype)
    model.generation_config.max_length = 77
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def saved_adapter(base: Path, folder: Path, config: Any, auto: Any = None) -> Any:
    """Save a trained adapter; return the PEFT model."""
    auto = auto or hf.AutoModelForCausalLM
    model = get_peft_model(auto.from_pretrained(base), config).eval()
    moved(model)
    model.save_pretrained(folder)
    return model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved_base(tmp_path / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    saved_adapter(base, tmp_path / "adapter", LoraConfig(target_modules=["q_proj"]))
    return tmp_path / "adapter"


def said(model: Any) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@SAVES_EMBEDDINGS
@pytest.mark.parametrize(
    "config",
    [*(LoraConfig(**options) for options in LORA.values()), IA3Config(), VeraConfig(r=4)],
    ids=[*LORA, "ia3", "vera"],
)
def test_says_what_the_adapter_said(config: Any, base: Path, tmp_path: Path) -> None:
    model = saved_adapter(base, tmp_path / "adapter", config)
    expected = said(
        PeftModel.from_pretrained(
            hf.AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
        )
    )
    assert torch.allclose(said(model), expected, atol=1e-4)
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(said(merged), expected, atol=1e-4)
    assert not torch.allclose(expected, said(made(MODELS["llama"])), atol=1e-2)


def test_the_folder_is_a_plain_model_with_its_tokenizer(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    merge(adapter, tmp_path / "new" / "merged")
    config = json.loads((tmp_path / "new" / "merged" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not list((tmp_path / "new" / "merged").glob("adapter*"))
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "new" / "merged")
    assert tokenizer.get_vocab() == byte_tokenizer().get_vocab()
    generation = hf.GenerationConfig.from_pretrained(tmp_path / "new" / "merged")
    assert generation.max_length == 77
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["merged"]


def test_its_card_says_what_was_merged_and_how_it_was_trained(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    (adapter / "README.md").write_text(
        "---\ntags:\n- dpo\n---\n\n# run\n\n## Use\n\n--adapter\n\n## Data\n\n"
        "![curves](curves.png)\n"
    )
    merge(adapter, tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text()
    assert f"`{base}` with the adapter `{adapter}` merged into its weights" in card
    assert f"contralign generate --model {tmp_path / 'merged'} --question" in card
    assert card.endswith("The adapter's card:\n\n# run\n\n## Data\n")
    assert "dpo" not in card


def test_base_and_adapter_are_only_read_and_twice_is_the_same(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    before = digests(base), digests(adapter)
    (tmp_path / "second").mkdir()
    for name in ("first", "second"):
        merge(adapter, tmp_path / name)
        (tmp_path / name / "README.md").unlink()  # says where the model lies
    assert (digests(base), digests(adapter)) == before
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


@SAVES_EMBEDDINGS
def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", torch.bfloat16)
    config = LoraConfig(target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    saved_adapter(base, tmp_path / "adapter", config)
    for dtype in ("auto", "float32"):
        merge(tmp_path / "adapter", tmp_path / dtype, dtype=dtype)
    half, exact = (
        hf.AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("auto", "float32")
    )
    assert {value.dtype for value in half.values()} == {torch.bfloat16}
    assert {value.dtype for value in exact.values()} == {torch.float32}
    assert all(torch.equal(half[name], exact[name].bfloat16()) for name in half)


@SAVES_EMBEDDINGS
@pytest.mark.filterwarnings("ignore:.* tied")
@pytest.mark.parametrize(("targets", "tied"), [(["q_proj"], True), (["q_proj", "lm_head"], False)])
def test_tied_embeddings_part_where_the_adapter_parts_them(
    tmp_path: Path, targets: list[str], tied: bool
) -> None:
    torch.manual_seed(0)
    base = hf.LlamaForCausalLM(hf.LlamaConfig(**TINY, tie_word_embeddings=True))
    base.save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    config = LoraConfig(target_modules=targets)
    model = saved_adapter(tmp_path / "base", tmp_path / "adapter", config)
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.config.tie_word_embeddings is tied
    assert torch.allclose(said(merged), said(model), atol=1e-4)


@SAVES_EMBEDDINGS
def test_tokens_added_in_training_come_along(base: Path, tmp_path: Path) -> None:
    model = hf.AutoModelForCausalLM.from_pretrained(base)
    tokenizer = byte_tokenizer("<tool>")
    model.resize_token_embeddings(len(tokenizer))
    saves = ["embed_tokens", "lm_head"]
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=saves))
    moved(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(said(merged), said(wrapped), atol=1e-4)
    assert len(hf.AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(tokenizer)


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_vision(tmp_path: Path, with_tokenizer: bool) -> None:
    model, processor = tiny_llava()
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    config = LoraConfig(target_modules=["q_proj", "linear_1"])
    auto = hf.AutoModelForImageTextToText
    wrapped = saved_adapter(tmp_path / "base", tmp_path / "adapter", config, auto)
    if with_tokenizer:
        processor.tokenizer.save_pretrained(tmp_path / "adapter")
    merge(tmp_path / "adapter", tmp_path / "merged")
    merged = auto.from_pretrained(tmp_path / "merged").eval()
    inputs = {
        "input_ids": torch.tensor([[1, *[model.config.image_token_id] * 4, 30, 31]]),
        "pixel_values": torch.randn(1, 3, 28, 28),
    }
    with torch.no_grad():
        assert torch.allclose(merged(**inputs).logits, wrapped(**inputs).logits, atol=1e-4)
    assert isinstance(hf.AutoProcessor.from_pretrained(tmp_path / "merged"), hf.LlavaProcessor)


def test_a_failure_leaves_nothing_behind(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf.PreTrainedTokenizerFast, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        merge(adapter, tmp_path / "out" / "merged")
    assert not list((tmp_path / "out").iterdir())


def test_refuses_a_folder_that_is_in_use(adapter: Path, base: Path) -> None:
    before = digests(base)
    with pytest.raises(ValueError, match="base is in use"):
        merge(adapter, base)
    assert digests(base) == before
    with pytest.raises(ValueError, match="is in use"):
        merge(adapter, base / "config.json")


def test_refuses_what_is_no_adapter(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base holds a whole model.* --model .*base\."):
        merge(base, tmp_path / "merged")
    with pytest.raises(ValueError, match=r"empty holds no adapter_config\.json"):
        merge(tmp_path / "empty", tmp_path / "merged")
    (base / "projections.safetensors").touch()
    with pytest.raises(ValueError, match=r"nothing to merge.* --method dcd:path=.*base\."):
        merge(base, tmp_path / "merged")


def test_refuses_the_adapter_of_a_reward_model(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(task_type="SEQ_CLS", base_model_name_or_path=str(base))
    config.save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ValueError, match="is a reward model's adapter, whose head"):
        merge(tmp_path / "adapter", tmp_path / "merged")


def test_refuses_virtual_tokens(base: Path, tmp_path: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    saved_adapter(base, tmp_path / "adapter", config)
    with pytest.raises(ValueError, match="PROMPT_TUNING adds tokens, not weights"):
        merge(tmp_path / "adapter", tmp_path / "merged")


def test_refuses_a_base_that_is_quantized_or_unnamed(adapter: Path, base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    quantized = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": quantized}))
    with pytest.raises(ValueError, match="base is quantized"):
        merge(adapter, adapter.parent / "merged")
    of_adapter = json.loads((adapter / "adapter_config.json").read_text())
    unnamed = {**of_adapter, "base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(unnamed))
    with pytest.raises(ValueError, match="doesn't say what its base is"):
        merge(adapter, adapter.parent / "merged")


def test_refuses_another_base(adapter: Path, tmp_path: Path) -> None:
    deeper = hf.LlamaForCausalLM(hf.LlamaConfig(**{**TINY, "num_hidden_layers": 3}))
    deeper.save_pretrained(tmp_path / "deeper")
    byte_tokenizer().save_pretrained(tmp_path / "deeper")
    config = json.loads((adapter / "adapter_config.json").read_text())
    other = {**config, "base_model_name_or_path": str(tmp_path / "deeper")}
    (adapter / "adapter_config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="doesn't fit LlamaForCausalLM: Found missing"):
        merge(adapter, tmp_path / "merged")


def test_refuses_weights_that_are_not_numbers(base: Path, tmp_path: Path) -> None:
    model = saved_adapter(base, tmp_path / "adapter", LoraConfig(target_modules=["q_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(torch.nan)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="seems to be broken"):
        merge(tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.filterwarnings("ignore::peft.utils.warning.PeftWarning")
def test_what_peft_cannot_merge_is_said_in_words(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(target_modules=["q_proj"], lora_bias=True)
    saved_adapter(base, tmp_path / "adapter", config)
    with pytest.raises(ValueError, match="PEFT can't merge this LORA adapter"):
        merge(tmp_path / "adapter", tmp_path / "merged")


def test_refuses_an_unknown_dtype(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"dtype must be one of {', '.join(DTYPES)}"):
        merge(adapter, tmp_path / "merged", dtype="int4")
