"""Prompts into left-padded batches, with a tokenizer of a dozen words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from contralign.decoding import CAD, encode

WORDS = ["[PAD]", "[BOS]", "user", "assistant", "the", "cat", "sat", "on", "a", "mat", "?"]
PAD, BOS, USER, ASSISTANT, THE, CAT, SAT, ON, A, MAT, ASKS = range(len(WORDS))
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %} {{ turn['role'] }} {{ turn['content'] }}"
    "{% endfor %}{% if add_generation_prompt %} assistant{% endif %}"
)


def tokenizer(**settings: Any) -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing("[BOS] $A", special_tokens=[("[BOS]", BOS)])
    chosen = {"pad_token": "[PAD]", "chat_template": TEMPLATE, "padding_side": "right"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="[BOS]", **chosen)


def chat(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_raw_text_is_padded_on_the_left_whatever_the_tokenizer_says() -> None:
    words = tokenizer()
    batch = encode(words, ["the cat sat", "mat"])
    assert batch["input_ids"].tolist() == [[BOS, THE, CAT, SAT], [PAD, PAD, BOS, MAT]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert words.padding_side == "right"
    assert all(isinstance(value, torch.Tensor) for value in batch.values())


def test_chat_goes_through_the_template_with_one_bos() -> None:
    batch = encode(tokenizer(), [chat("the cat"), chat("mat")])
    assert batch["input_ids"].tolist() == [
        [BOS, USER, THE, CAT, ASSISTANT],
        [PAD, BOS, USER, MAT, ASSISTANT],
    ]


def test_chat_equals_the_template_tokenizing_itself() -> None:
    words = tokenizer()
    theirs = words.apply_chat_template(
        [chat("a cat sat"), chat("mat")],
        add_generation_prompt=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
        tokenizer_kwargs={"padding_side": "left"},
    )
    ours = encode(words, [chat("a cat sat"), chat("mat")])
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


def test_a_method_builds_its_branch_from_the_contrast_prompts() -> None:
    (branch,) = CAD().branches(tokenizer(), ["the cat sat", "a mat"], contrast=["sat", "mat on"])
    assert branch["input_ids"].tolist() == [[PAD, BOS, SAT], [BOS, MAT, ON]]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one prompt"),
        (["the cat", ""], r"prompts \[1\] are empty"),
        ([[], chat("mat")], r"prompts \[0\] are empty"),
        ([chat("mat"), chat("")], r"prompts \[1\] are empty"),
        (["mat", chat("mat")], r"prompts \[0\] are raw text, the others chat"),
        ("the cat", "got a single one"),
    ],
)
def test_refuses_what_is_no_batch_of_prompts(messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(tokenizer(), messages)


def test_refuses_a_single_conversation() -> None:
    # TypeError where types are executed.
    with pytest.raises((ValueError, TypeError), match=r"single one|messages"):
        encode(tokenizer(), chat("the cat"))  # type: ignore[arg-type]


def test_refuses_a_prompt_that_has_no_token() -> None:
    words = tokenizer()
    words.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match=r"prompts \[1\] are empty"):
        encode(words, ["cat", "  "])


def test_refuses_a_tokenizer_without_pad_token() -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.pad_token = tokenizer\.eos_token"):
        encode(tokenizer(pad_token=None), ["cat"])


def test_refuses_chat_without_a_template() -> None:
    with pytest.raises(ValueError, match="has none"):
        encode(tokenizer(chat_template=None), [chat("cat")])


def test_refuses_images_that_a_tokenizer_cannot_read() -> None:
    with pytest.raises(ValueError, match=r"images need a processor.* prompts \[1\]"):
        encode(tokenizer(), ["cat", "mat"], images=[[], ["a.png"]])


class Processor:
    """A processor by its outline: a tokenizer, eyes, and a record of what it was shown."""

    image_processor = object()

    def __init__(self) -> None:
        self.tokenizer = tokenizer()
        self.chat_template = TEMPLATE
        self.apply_chat_template = self.tokenizer.apply_chat_template
        self.shown: Any = None

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> Any:
        self.shown = images
        return self.tokenizer(text, **options)


def test_images_go_to_the_processor_beside_the_text() -> None:
    processor = Processor()
    batch = encode(processor, [chat("the cat"), chat("mat")], images=[[Image.new("L", (2, 3))], []])
    assert [[image.mode for image in row] for row in processor.shown] == [["RGB"], []]
    assert batch["input_ids"].tolist()[1] == [PAD, BOS, USER, MAT, ASSISTANT]


def test_a_processor_reads_text_alone_too() -> None:
    processor = Processor()
    assert encode(processor, ["cat"])["input_ids"].tolist() == [[BOS, CAT]]
    assert processor.shown is None


def test_refuses_images_of_another_number_than_the_prompts() -> None:
    with pytest.raises(ValueError, match="got 1 for 2"):
        encode(Processor(), ["cat", "mat"], images=[[]])
