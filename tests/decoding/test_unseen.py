"""Prompts without their pictures, in each family's own format."""

from __future__ import annotations

from typing import Any

import pytest
from vlms import FAMILIES, family

from contralign.decoding.unseen import with_unknown, without_images

LLAVA = "USER: {}What? ASSISTANT: "
CHAT = "<|im_start|>user\n{}What?<|im_end|>\n<|im_start|>assistant\n"
# The text that is left, and what stands for a picture in it.
LEFT = {
    "LLaVA-1.5": (LLAVA, "<unk>\n"),
    "LLaVA-OneVision": (CHAT, "<unk>\n"),
    "Qwen2-VL": (CHAT, "<|vision_start|><pad><|vision_end|>"),
    "Qwen2.5-VL": (CHAT, "<|vision_start|><pad><|vision_end|>"),
    "Qwen3-VL": (CHAT, "<|vision_start|><pad><|vision_end|>"),
    "SmolVLM": (CHAT, "<unk>"),
    "Idefics3": (CHAT, "<unk>"),
    "InternVL": (CHAT, "<unk>\n"),
    "Gemma 3": (CHAT, "<unk>"),
    "PaliGemma": ("{}<s>What?\n", "<unk>"),
    "InstructBLIP": ("{}What?", "<unk>"),
}
RAW = {"PaliGemma": "<image>What?", "InstructBLIP": "What?"}


def chat(name: str, pictures: int) -> Any:
    parts = [{"type": "image"}] * pictures
    message = {"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}
    return RAW.get(name) or [message]


def text(reader: Any, inputs: Any) -> str:
    return reader.tokenizer.decode(inputs["input_ids"][0])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pictures_leave_no_trace(name: str) -> None:
    _, reader = family(name)
    inputs = without_images(reader, [chat(name, 1)])
    assert text(reader, inputs) == LEFT[name][0].format("")
    assert not any(x.is_floating_point() for x in inputs.values())
    assert inputs["attention_mask"].all()


@pytest.mark.parametrize("name", FAMILIES)
def test_one_token_stands_for_each_picture(name: str) -> None:
    _, reader = family(name)
    count = 1 if name in RAW else 2
    inputs = with_unknown(reader, [chat(name, count)], [count])
    assert text(reader, inputs) == LEFT[name][0].format(LEFT[name][1] * count)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("LLaVA-1.5", "USER: <image>\nWhat? ASSISTANT:"),
        ("Qwen2.5-VL", "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?"),
        ("Gemma 3", "<start_of_image> What?"),
        ("Idefics3", "User:<image><image>What?<end_of_utterance>"),
    ],
)
def test_raw_text_loses_the_tokens_and_their_brackets(name: str, raw: str) -> None:
    _, reader = family(name)
    found = text(reader, without_images(reader, [raw]))
    kept = {
        "LLaVA-1.5": "USER: What? ASSISTANT:",
        "Qwen2.5-VL": "<|im_start|>user\nWhat?",
        "Gemma 3": "What?",
        "Idefics3": "User:What?<end_of_utterance>",
    }
    assert found == kept[name]


def test_a_batch_is_padded_on_the_left() -> None:
    _, reader = family("LLaVA-1.5")
    inputs = without_images(reader, [chat("", 1), [{"role": "user", "content": "Why then?"}]])
    first, second = (sum(row) for row in inputs["attention_mask"].tolist())
    assert second - first == len("Why then?") - len("What?")
    assert inputs["attention_mask"][0].tolist() == [0] * (second - first) + [1] * first
