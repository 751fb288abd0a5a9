"""The token ids of a row, before its prompt and its completions are told apart.

Text is tokenised as TRL's DPOTrainer does it: prompt and completion together. Text that is no
conversation ends with EOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from trl.data_utils import _tokenize, is_conversational

from .groups import Row, answers
from .messages import blamed

Processor: TypeAlias = PreTrainedTokenizerBase | ProcessorMixin


@dataclass(frozen=True)
class Tokens:
    """A row's ids.

    Attributes:
        prompt: Of the prompt alone, a placeholder an image.
        full: Of the prompt with each completion.
        expanded: Of the prompt as the model reads it: a placeholder for each of an image's
            positions.
        images: What the processor made of the prompt beside ids and mask.
    """

    prompt: list[int]
    full: list[list[int]]
    expanded: list[int]
    images: Mapping[str, Tensor] = field(default_factory=dict)


def read(row: Row, processor: Processor) -> Tokens:
    """Read a row of text.

    Raises:
        RowError: The chat template refuses it.
    """
    prompt = row["prompt"]
    if is_conversational(row):
        options = template_options(row)
        with blamed("chat-template"):
            ids = _ids(processor, prompt, add_generation_prompt=True, **options)
            full = [_ids(processor, prompt + side, **options) for side in answers(row).values()]
    else:
        ids = _ids(processor, prompt)
        full = [_ids(processor, prompt + completion) for completion in ended(row, processor)]
    return Tokens(ids, full, ids)


def tokenizer_of(processor: Processor) -> Any:
    """The tokenizer inside a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def template_options(row: Row) -> dict[str, Any]:
    """What a row passes to the chat template."""
    return {"tools": row.get("tools"), **row.get("chat_template_kwargs", {})}


def ended(row: Row, processor: Processor) -> list[str]:
    """The completions of a row that is text, with EOS at their end."""
    eos = tokenizer_of(processor).eos_token
    return [text if text.endswith(eos) else text + eos for text in answers(row).values()]


def _ids(processor: Processor, side: str | list[Any], **options: Any) -> list[int]:
    return list(map(int, _tokenize(processor, side, **options)["input_ids"]))
