"""A small model of the LLaVA architecture with its tokenizer and processor.

Liu et al. 2023, "Visual Instruction Tuning", arXiv 2304.08485: the patches of a CLIP tower go
through a linear projector in front of the words that a Llama reads. Here one patch is one place of
a scene, and a token is one word of the world's few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from .facts import COLUMNS, DESCRIBE, DETAIL, NUMBERS, ROWS, SHORT
from .kinds import COLORS, KINDS
from .pictures import CELL, SIDE

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
ROLES = ("USER:", "ASSISTANT:")
INIT = 0.08
"""Deviation of the language model's first weights: with the usual 0.02, a model so narrow takes
thousands of steps to find out how to look for what a question names."""
EMPTY = "nothing"
"""What the tower learns to call a place with nothing on it."""
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}"
    "{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}.get(turn.role, '') }}"
    "{% if turn.content is string %}{{ turn.content }}{% else %}{% for part in turn.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{{ ' ' if not loop.last }}"
    "{% endfor %}{% endif %}{{ eos_token if turn.role == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """How large the model is.

    Attributes:
        width: Of the language model's states.
        layers: Of the language model.
        tower_width: Of the vision tower's states.
        tower_layers: Of the vision tower.
        heads: Of attention, in both.
    """

    width: int = 128
    layers: int = 3
    tower_width: int = 96
    tower_layers: int = 3
    heads: int = 4


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a word; words that the world doesn't have become `<unk>`."""
    words = [*SPECIAL, *ROLES, *dict.fromkeys(_words())]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex(r"[.,?!]"), "isolated")]
    )
    made.decoder = decoders.Sequence([decoders.Metaspace(), decoders.Fuse()])
    roles = [AddedToken(role, lstrip=True, rstrip=True) for role in ROLES]
    special = [AddedToken(word, lstrip=True, rstrip=True, special=True) for word in SPECIAL]
    made.add_special_tokens(special)
    made.add_tokens(roles)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        **{f"{name}_token": f"<{mark}>" for name, mark in _MARKS.items()},
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


_MARKS = {"pad": "pad", "bos": "s", "eos": "/s", "unk": "unk"}


def processor() -> LlavaProcessor:
    """The tokenizer with what turns a picture into one token a place."""
    images = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def network(size: Size, words: Any, seed: int) -> LlavaForConditionalGeneration:
    """Make an untrained model.

    Args:
        size: How large.
        words: The tokenizer.
        seed: Of its weights.
    """
    tower = {
        "model_type": "clip_vision_model",
        "hidden_size": size.tower_width,
        "intermediate_size": 3 * size.tower_width,
        "num_hidden_layers": size.tower_layers,
        "num_attention_heads": size.heads,
        "image_size": SIDE,
        "patch_size": CELL,
        "projection_dim": size.tower_width,
    }
    reader = {
        "model_type": "llama",
        "vocab_size": len(words),
        "hidden_size": size.width,
        "intermediate_size": 2 * size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads,
        "max_position_embeddings": 512,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "tie_word_embeddings": True,
        "initializer_range": INIT,
    }
    config = LlavaConfig(
        vision_config=tower,
        text_config=reader,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projector_hidden_act="linear",
        tie_word_embeddings=True,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(config).float()


def _words() -> Iterator[str]:
    """The words of all templates, as tokens: with a bar in front unless they're punctuation."""
    texts = [
        "Is there only one . Are there in the image? Yes No",
        "the on side of image",
        "There is and , There are a an",
        *(DETAIL, DESCRIBE, SHORT),
        "What color is usually seen with How many Where are",
        " ".join([*NUMBERS, *ROWS, *COLUMNS, *COLORS, EMPTY]),
        " ".join(f"{kind.name} {kind.plural}" for kind in KINDS.values()),
    ]
    for text in texts:
        for word in re.findall(r"\w+|[.,?]", text):
            yield word if word in ".,?" else f"▁{word}"
