"""Tokenizers that real ones are like: merges across words, BOS in front, marks for blanks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from align_vlms import CHATML
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "What color is the sky? The sky is blue. The sky is green.",
    "Where is the sun? The sun is in the sky. It's in the sea, isn't it?",
    "user assistant system tool",
)
LLAMA = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'assistant' %}"
    "{{ ' ' + turn.content + eos_token }}{% elif loop.index0 % 2 == 0 or turn.role == 'tool' %}"
    "{{ '[INST] ' + turn.content + ' [/INST]' }}{% else %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
# Says that the answer begins in a way that no answer does.
THINKING = CHATML.replace(
    "<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>{% endif %}"
)


def chatml(text: Iterable[str] = TEXT, size: int = 400) -> PreTrainedTokenizerFast:
    """Byte-level, no BOS, each turn between two special tokens and a line's end."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHATML,
    )


def llama(text: Iterable[str] = TEXT) -> PreTrainedTokenizerFast:
    """Marks for blanks; the tokenizer puts BOS in front, and so does the template."""
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=LLAMA,
    )


def words(**options: Any) -> PreTrainedTokenizerFast:
    """A word a token; neither BOS nor a chat template."""
    known = ["a", "b", "c", "d", "e", "f", "user", "assistant", "system", ":", "hi", "yes", "no"]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<eos>", normalized=False)])
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{**names, **options})


@cache
def shared(name: str) -> PreTrainedTokenizerFast:
    """One of them by name, trained once; don't change it."""
    return {"chatml": chatml, "llama": llama, "words": words}[name]()
