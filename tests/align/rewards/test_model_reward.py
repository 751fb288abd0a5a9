"""Reward models, against one text at a time and against what TRL's trainers compute."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from eval_doubles import tiny_llama
from peft import LoraConfig, get_peft_model
from reward_models import CLASSIFIERS, alone, saved
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import apply_chat_template

from contralign.align.rewards import ModelReward, RewardError

PROMPTS = ["a b", "c d e f g", "h"]
COMPLETIONS = [" c", " d e f g h i j k l", " m n"]


def turns(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


CHAT = {
    "prompts": [turns("user", text) for text in PROMPTS],
    "completions": [turns("assistant", text) for text in COMPLETIONS],
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_batch_is_its_rows_alone(tmp_path: Path, family: str, side: str) -> None:
    folder = saved(tmp_path, family, padding_side=side)
    expected = [alone(folder, f"{p}{c}</s>") for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    assert len({round(score, 3) for score in expected}) == 3
    for size in (1, 2, 8):
        found = ModelReward(str(folder), batch_size=size)(PROMPTS, COMPLETIONS)
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_messages_go_through_the_models_own_template(tmp_path: Path, family: str) -> None:
    folder = saved(tmp_path, family)
    texts = [f"u {p}</s>a {c}</s>" for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    found = ModelReward(str(folder))(**CHAT)
    assert found == pytest.approx([alone(folder, text) for text in texts], abs=1e-5)


@pytest.mark.parametrize("tokenizer", [{}, {"pad_token": None}])
@pytest.mark.parametrize("family", CLASSIFIERS)
def test_the_rewards_of_messages_are_those_of_trls_online_trainers(
    tmp_path: Path, family: str, tokenizer: dict[str, Any]
) -> None:
    folder = saved(tmp_path, family, **tokenizer)
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    # As RLOOTrainer does it, in __init__ and _calculate_rewards.
    if words.pad_token_id is None:
        words.pad_token = words.eos_token
    model.config.get_text_config().pad_token_id = words.pad_token_id
    messages = [
        {"messages": p + c} for p, c in zip(CHAT["prompts"], CHAT["completions"], strict=True)
    ]
    texts = [apply_chat_template(one, words)["text"] for one in messages]
    inputs = words(
        text=texts,
        return_tensors="pt",
        padding=True,
        padding_side="right",
        add_special_tokens=False,
    )
    with torch.inference_mode():
        theirs = model(**inputs).logits[:, 0].tolist()
    assert ModelReward(str(folder))(**CHAT) == pytest.approx(theirs, abs=1e-5)


def test_weights_are_cast(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    expected = [
        alone(folder, f"{p}{c}</s>", torch.bfloat16)
        for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    reward = ModelReward(str(folder), dtype="bfloat16")
    found = reward(PROMPTS, COMPLETIONS)
    assert found == pytest.approx(expected, rel=0.05, abs=0.02)
    assert found != ModelReward(str(folder))(PROMPTS, COMPLETIONS)
    assert reward.fingerprint()["dtype"] == "bfloat16"


def test_an_adapter_brings_its_head(tmp_path: Path, model_folder: Path) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS")
    model: Any = get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    model.config.pad_token_id = 0
    words = AutoTokenizer.from_pretrained(model_folder)
    ids = words("a b c</s>", return_tensors="pt")["input_ids"]
    expected = model(input_ids=ids).logits[0, 0].item()
    assert ModelReward(str(tmp_path))(["a b"], [" c"]) == pytest.approx([expected], abs=1e-5)


def test_what_is_too_long_is_named_or_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = saved(tmp_path)
    with pytest.raises(
        RewardError, match=r"completion 1: .* 15 tokens, but the .* reads 5"
    ) as error:
        ModelReward(str(folder), max_length=5)(PROMPTS, COMPLETIONS)
    assert error.value.index == 1
    with caplog.at_level(logging.WARNING):
        found = ModelReward(str(folder), max_length=5, on_long="cut")(PROMPTS, COMPLETIONS)
    assert "1 of 3 completions are cut to 5 tokens" in caplog.text
    assert found[1] == pytest.approx(alone(folder, "c d e f g"), abs=1e-5)
    long = ["a " * 300]
    with pytest.raises(RewardError, match="reads 256"):
        ModelReward(str(folder))(long, ["b"])


def test_a_fingerprint_tells_models_apart(tmp_path: Path) -> None:
    first, other = saved(tmp_path / "a"), saved(tmp_path / "b", chat_template="{{ messages }}")
    prints = [ModelReward(str(folder)).fingerprint() for folder in (first, other)]
    assert prints[0]["weights"] == prints[1]["weights"]
    assert prints[0]["tokenizer"] != prints[1]["tokenizer"]
    model = AutoModelForSequenceClassification.from_pretrained(first)
    with torch.no_grad():
        model.score.weight[0, 3] += 1e-3
    model.save_pretrained(first)
    assert ModelReward(str(first)).fingerprint()["weights"] != prints[0]["weights"]


def test_what_is_no_reward_model_is_refused(tmp_path: Path, model_folder: Path) -> None:
    several = saved(tmp_path / "several", labels=3)
    headless = saved(tmp_path / "headless")
    AutoModelForSequenceClassification.from_pretrained(headless).model.save_pretrained(
        tmp_path / "inner"
    )
    causal = tmp_path / "causal"
    adapter = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(tiny_llama(), adapter).save_pretrained(causal)
    cases = {
        several: "one logit, but .* has num_labels=3 .* choose a logit in a function of your own",
        model_folder: "is a LlamaForCausalLM without a classifier's head. Take a reward model",
        tmp_path / "inner": "is a LlamaModel without a classifier's head",
        causal: "is for CAUSAL_LM, not for SEQ_CLS",
        tmp_path / "nowhere": "is a hub id or a folder, got .*, which is neither",
    }
    for folder, told in cases.items():
        with pytest.raises(ValueError, match=told):
            ModelReward(str(folder)).check([])


def test_a_folder_that_lost_its_head_is_refused(tmp_path: Path, model_folder: Path) -> None:
    folder = saved(tmp_path)
    config = (folder / "config.json").read_text()
    inner = AutoModelForSequenceClassification.from_pretrained(folder).model
    inner.save_pretrained(folder)
    (folder / "config.json").write_text(config)
    reward = ModelReward(str(folder))
    reward.check([])
    with pytest.raises(ValueError, match=r"lacks weights of its classifier \(score.weight\)"):
        reward(PROMPTS, COMPLETIONS)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "int8"}, "dtype is one of auto, float32"),
        ({"on_long": "drop"}, "on_long is one of error, cut, got 'drop'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelReward("model", **options)


def test_pictures_and_messages_without_template_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, chat_template=None)
    with pytest.raises(ValueError, match="reads text alone, but the data has a column images"):
        ModelReward(str(folder)).check(["prompt", "images"])
    with pytest.raises(ValueError, match="has no chat template for messages"):
        ModelReward(str(folder))(**CHAT)
