"""What a processor's batch gets wrong is put right, and its errors name the prompt."""

from __future__ import annotations

import copy

import pytest
import torch
from align_vlms import picture
from PIL import Image
from tokenizers.processors import TemplateProcessing
from vlms import family

from contralign.decoding import encode


def test_a_q_former_reads_a_batch_as_it_reads_each_row() -> None:
    model, reader = family("InstructBLIP")
    texts, images = ["What is this?", "Why?"], [[picture(0)], [picture(1)]]
    batch = encode(reader, texts, images)
    assert batch["attention_mask"][1].tolist() == [0] * 9 + [1] * 8
    assert batch["qformer_attention_mask"][1].tolist() == [1] * 4 + [0] * 9
    with torch.no_grad():
        together = model(**batch).logits[:, -1]
        alone = [
            model(**encode(reader, [t], [i])).logits[0, -1]
            for t, i in zip(texts, images, strict=True)
        ]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_a_processors_complaint_names_the_prompt() -> None:
    _, reader = family("Qwen2.5-VL")
    text = "<|vision_start|><|image_pad|><|vision_end|>What?"
    ribbon = Image.new("RGB", (3000, 2))
    with pytest.raises(ValueError, match=r"prompt 1: absolute aspect ratio must be smaller"):
        encode(reader, [text] * 3, [[picture(0)], [ribbon], [picture(1)]])


@pytest.mark.parametrize("begin", ["", "<s>"])
def test_a_prompt_begins_once_whoever_writes_it(begin: str) -> None:
    reader = copy.deepcopy(family("LLaVA-1.5")[1])
    reader.chat_template = begin + reader.chat_template
    reader.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", 1)]
    )
    ids = encode(reader, [[{"role": "user", "content": "What?"}]])["input_ids"][0]
    assert reader.tokenizer.decode(ids) == "<s>USER: What? ASSISTANT: "
