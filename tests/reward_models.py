"""Tiny reward models on disk, with random weights that matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from align_models import GPT2, GROUPED, HEADED, made
from eval_doubles import tiny_tokenizer

CHAT = "{% for turn in messages %}{{ turn.role[0] + ' ' + turn.content + eos_token }}{% endfor %}"
CLASSIFIERS: dict[str, Callable[..., Any]] = {
    "llama": lambda **o: hf.LlamaForSequenceClassification(hf.LlamaConfig(**GROUPED, **o)),
    "qwen3": lambda **o: hf.Qwen3ForSequenceClassification(hf.Qwen3Config(**HEADED, **o)),
    "gpt2": lambda **o: hf.GPT2ForSequenceClassification(hf.GPT2Config(**GPT2, **o)),
}


def saved(folder: Path, family: str = "llama", labels: int = 1, **tokenizer: Any) -> Path:
    """A classifier and its tokenizer, which knows 26 one-letter words."""
    model = made(lambda: CLASSIFIERS[family](num_labels=labels))
    words = tiny_tokenizer()
    words.chat_template = CHAT
    for name, value in tokenizer.items():
        setattr(words, name, value)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def alone(folder: Path, text: str, dtype: torch.dtype = torch.float32) -> float:
    """The reward of one text, by itself and unpadded, read at its last token."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    model.config.pad_token_id = None
    with torch.no_grad():
        return model(input_ids=ids).logits[0, 0].float().item()
