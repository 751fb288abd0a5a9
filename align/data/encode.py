"""A row as what the engine reads: the prompt's ids once, and those of each completion.

The completion starts where the tokens of prompt and completion part from those of the prompt alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from transformers import ProcessorMixin
from trl.data_utils import common_prefix_length, is_conversational

from ..positions import TOKEN_TYPES
from .groups import Row, answers
from .problems import RowError
from .tokens import Processor, Tokens, read, tokenizer_of
from .vision import see


@dataclass(frozen=True)
class Encoded:
    """A row as token ids.

    Attributes:
        prompt: Placeholders stand once for each position of their image.
        completions: Chosen and rejected, or all of a group.
        images: What the processor made of the prompt, its ids and mask left out.
        warnings: Names of problems that it can be trained in spite of, and what was found.
    """

    prompt: list[int]
    completions: list[list[int]]
    images: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def encode(row: Row, processor: Processor, max_length: int | None = None, room: int = 1) -> Encoded:
    """Tokenise a row.

    Args:
        row: In the form that `normalise` gives it.
        processor: The model's tokenizer, or its processor.
        max_length: Tokens of prompt and completion; what is longer loses its end.
        room: Tokens that must fit behind the prompt.

    Raises:
        RowError: The row can't be trained on.
        ValueError: The processor isn't one for such rows.
    """
    _check_processor(row, processor)
    tokens = see(row, processor) if "images" in row else read(row, processor)
    encoded = _without_second_bos(_split(tokens, processor), tokenizer_of(processor))
    names = list(answers(row))
    _check_ids(encoded, names, processor)
    return _cut(_with_missing_eos(encoded, names, tokenizer_of(processor)), names, max_length, room)


def _split(tokens: Tokens, processor: Processor) -> Encoded:
    """Take the completions off where both part from the prompt."""
    shared = (common_prefix_length(tokens.prompt, full) for full in tokens.full)
    kept = min(shared, default=len(tokens.prompt))
    lost = tokens.prompt[kept:]
    end = len(tokens.expanded) - len(lost)
    if tokens.expanded[end:] != lost:
        raise RowError("chat-template", "with a completion, the prompt changes before its image")
    warnings = []
    if lost:
        shown = tokenizer_of(processor).decode(lost)
        warnings.append(("boundary", f"the prompt's end {shown!r} becomes other tokens"))
    return _with_prompt(
        Encoded(tokens.expanded, [full[kept:] for full in tokens.full], tokens.images, warnings),
        slice(end),
    )


def _with_prompt(encoded: Encoded, part: slice) -> Encoded:
    """Keep a part of the prompt."""
    images = {
        name: value[part] if name in TOKEN_TYPES else value
        for name, value in encoded.images.items()
    }
    return replace(encoded, prompt=encoded.prompt[part], images=images)


def _without_second_bos(encoded: Encoded, tokenizer: Any) -> Encoded:
    bos = tokenizer.bos_token_id
    if bos is None or encoded.prompt[:2] != [bos, bos]:
        return encoded
    found = ("double-bos", f"the prompt begins with {tokenizer.bos_token * 2!r}")
    encoded = _with_prompt(encoded, slice(1, None))
    return replace(encoded, warnings=[*encoded.warnings, found])


def _check_ids(encoded: Encoded, names: Sequence[str], processor: Processor) -> None:
    if not encoded.prompt:
        raise RowError("missing-prompt", "none of its tokens is left")
    images: set[Any] = set()
    if isinstance(processor, ProcessorMixin):
        images = {*processor.image_token_ids} - {None}
    for name, ids in zip(names, encoded.completions, strict=True):
        if not ids:
            raise RowError("empty-completion", f"{name} has no tokens")
        if images & set(ids):
            raise RowError("image-count", f"{name} has the token that stands for an image")


def _with_missing_eos(encoded: Encoded, names: Sequence[str], tokenizer: Any) -> Encoded:
    open_ended = [
        f"{name} ends with {tokenizer.decode(ids[-4:])!r}"
        for name, ids in zip(names, encoded.completions, strict=True)
        if not _stops(ids, tokenizer)
    ]
    if not open_ended:
        return encoded
    found = ("missing-eos", ", ".join(open_ended))
    return replace(encoded, warnings=[*encoded.warnings, found])


def _stops(ids: Sequence[int], tokenizer: Any) -> bool:
    """Whether the last token that isn't blank ends a turn."""
    last = next(
        (i for i in reversed(ids) if i == tokenizer.eos_token_id or tokenizer.decode([i]).strip()),
        None,
    )
    if last is None or last == tokenizer.eos_token_id:
        return last is not None
    token = tokenizer.added_tokens_decoder.get(last)
    ordinary = (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return token is not None and token.special and last not in ordinary


def _cut(encoded: Encoded, names: Sequence[str], max_length: int | None, least: int) -> Encoded:
    length = len(encoded.prompt)
    if max_length is not None and length + least > max_length:
        found = f"it has {length} tokens, max_length is {max_length}"
        raise RowError("prompt-too-long", found + f", a sample's {least}" * (least > 1))
    room = None if max_length is None else max_length - length
    completions = [ids[:room] for ids in encoded.completions]
    cut = [
        f"{name} keeps {len(kept)} of its {len(whole)} tokens"
        for name, kept, whole in zip(names, completions, encoded.completions, strict=True)
        if len(kept) < len(whole)
    ]
    if len(completions) > 1 and all(ids == completions[0] for ids in completions):
        told = f"their first {room} tokens" if cut else "all their tokens"
        raise RowError("identical", f"{told} are the same")
    warnings = encoded.warnings + ([("truncated", ", ".join(cut))] if cut else [])
    return replace(encoded, completions=completions, warnings=warnings)


def _check_processor(row: Row, processor: Processor) -> None:
    if "images" in row and not isinstance(processor, ProcessorMixin):
        raise ValueError(
            "rows with images need a model that reads images, and its processor, got a "
            f"{type(processor).__name__}. Name such a model, or leave out the column of images; in "
            "Python, load the processor with AutoProcessor."
        )
    tokenizer = tokenizer_of(processor)
    if not is_conversational(row):
        if tokenizer.eos_token is None:
            raise ValueError(
                f"a completion ends with EOS, but this {type(tokenizer).__name__} has no "
                "eos_token. Set it to a token that ends a text."
            )
    elif getattr(processor, "chat_template", None) is None and tokenizer.chat_template is None:
        raise ValueError(
            f"messages need a chat template, but this {type(tokenizer).__name__} has none. Set "
            "its chat_template, or take the instruct model's tokenizer."
        )
