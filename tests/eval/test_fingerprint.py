"""A fingerprint notices another model, another dtype, and a checkpoint that changed in place."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from eval_doubles import tiny_llama, tiny_tokenizer

from contralign.decoding.digest import weights_digest
from contralign.eval.fingerprint import fingerprint, reading


def test_it_names_what_computes() -> None:
    found = fingerprint(tiny_llama())
    assert found["dtype"] == "float32"
    assert found["torch"] == torch.__version__
    assert found["transformers"] == transformers.__version__


def test_a_folder_is_known_by_its_last_part_and_its_weights(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "tiny")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    found = fingerprint(loaded)
    assert found["name"] == "tiny"
    assert found["weights"] == weights_digest(tiny_llama())


def test_a_tokenizer_is_known_by_its_tokens_template_and_ends() -> None:
    tokenizer = tiny_tokenizer()
    found = reading(tokenizer, 2)
    assert found == reading(tiny_tokenizer(), 2)
    tokenizer(["a b", "c"], padding=True, truncation=True, max_length=4)
    assert reading(tokenizer, 2) == found
    assert reading(tokenizer, [2, 3]) != found
    tokenizer.chat_template = "{{ messages }}"
    templated = reading(tokenizer, 2)
    assert templated != found
    tokenizer.add_tokens(["zebra"])
    assert reading(tokenizer, 2) not in (found, templated)
