"""A reward that is a model: a sequence classifier with one logit, as TRL's RewardTrainer makes.

Text is tokenised as that trainer does it: messages through the model's own chat template, other
text with BOS as its tokenizer has it and EOS at the end. TRL's online trainers give a reward model
such text without either. As everywhere in TRL, the logit is that of the last token that isn't the
padding token, which is EOS where the tokenizer has none for padding.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
import transformers
from accelerate import PartialState
from torch import nn
from trl.data_utils import _tokenize

from contralign.devices import check_device

from ..data.formats import IMAGES
from ..data.messages import flat
from .classifier import (
    DTYPES,
    Source,
    find,
    load_classifier,
    load_tokenizer,
    longest,
    read_config,
    whole_digest,
)
from .reward import RewardError, Text, finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelReward:
    """A reward model; its weights are loaded when it's first asked.

    Attributes:
        model: Hub id or folder: a sequence classifier, or an adapter that makes one of its base.
        revision: Branch, tag or commit on the hub.
        dtype: Of the weights: auto (as they were saved), float32, bfloat16 or float16.
        device: Where to; None is this process's own device.
        batch_size: Completions a forward, of like lengths.
        max_length: Tokens of a prompt with its completion; None is what the model can read.
        on_long: Longer ones are an error, or cut: they lose their end, and are counted in the log.
    """

    model: str
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    batch_size: int = 8
    max_length: int | None = None
    on_long: str = "error"

    def __post_init__(self) -> None:
        for name, known in (("dtype", DTYPES), ("on_long", ("error", "cut"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}."
                )
        check_device(self.device)
        for name in ("batch_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")

    def check(self, columns: Collection[str]) -> None:
        """Refuse pictures, and a model that is no reward model; its weights aren't loaded."""
        for name in IMAGES:
            if name in columns:
                raise ValueError(
                    f"{self.model} reads text alone, but the data has a column {name}. Leave it "
                    "out, or judge pictures in a function: reward_funcs."
                )
        self.tokenizer  # noqa: B018

    def fingerprint(self) -> Mapping[str, Any]:
        """A digest of weights and tokenizer, and how they are used."""
        return dict(self._fingerprint)

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[float]:
        rows = self.encode(prompts, completions, **columns)
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            for index, score in zip(batch, self._judged([rows[i] for i in batch]), strict=True):
                scores[index] = score
        return finite(scores, len(rows), f"the reward of {self.model}")

    def encode(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[list[int]]:
        """Tokenise prompts with their completions; needs no weights.

        Raises:
            RewardError: One is too long, or the chat template refuses it.
        """
        options = [_options(columns, index) for index in range(len(prompts))]
        sides = zip(prompts, completions, options, strict=True)
        rows = [self._ids(index, *side) for index, side in enumerate(sides)]
        limit = self._limit
        long = [i for i, ids in enumerate(rows) if limit is not None and len(ids) > limit]
        if long and self.on_long == "error":
            raise RewardError(
                long[0],
                f"prompt and completion have {len(rows[long[0]])} tokens, but the reward model "
                f"reads {limit}. Leave the row out, or set on_long to cut.",
            )
        if long:
            logger.warning("%d of %d completions are cut to %s tokens", len(long), len(rows), limit)
        return [ids[:limit] for ids in rows]

    def release(self) -> None:
        """Let go of the weights; they are loaded again when it's asked again."""
        self.__dict__.pop("_classifier", None)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own."""
        return load_tokenizer(self._source)

    @cached_property
    def _fingerprint(self) -> Mapping[str, Any]:
        how = self.tokenizer.backend_tokenizer.to_str() + str(self.tokenizer.chat_template)
        return {
            "model": self._source.adapter or self._source.name,
            "weights": whole_digest(self._classifier),
            "tokenizer": blake2b(how.encode(), digest_size=16).hexdigest(),
            "dtype": str(next(self._classifier.parameters()).dtype).removeprefix("torch."),
            "max_length": self._limit,
            "on_long": self.on_long,
            "transformers": transformers.__version__,
        }

    @cached_property
    def _source(self) -> Source:
        return find(self.model, self.revision)

    @cached_property
    def _limit(self) -> int | None:
        known = longest(read_config(self._source), self.tokenizer)
        limits = [limit for limit in (known, self.max_length) if limit is not None]
        return min(limits, default=None)

    @cached_property
    def _classifier(self) -> nn.Module:
        device = self.device or str(PartialState().device)
        return load_classifier(self._source, self.dtype, device, self.tokenizer.pad_token_id)

    def _ids(self, index: int, prompt: Text, completion: Text, options: Any) -> list[int]:
        tokenizer = self.tokenizer
        if isinstance(prompt, str) and isinstance(completion, str):
            text, eos = prompt + completion, tokenizer.eos_token or ""
            ids = _tokenize(tokenizer, text if text.endswith(eos) else text + eos)["input_ids"]
        elif tokenizer.chat_template is None:
            raise ValueError(f"{self.model} has no chat template for messages. Pass text.")
        else:
            sides: Any = (prompt, completion)
            messages = [flat(message) for side in sides for message in side]
            ids = _rendered(tokenizer, index, messages, options)
        twice = [tokenizer.bos_token_id] * 2
        return list(ids[1:] if None not in twice and list(ids[:2]) == twice else ids)

    def _judged(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Judge a batch, padded on the right."""
        device = next(self._classifier.parameters()).device
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
        lengths = torch.tensor([[len(row)] for row in rows], device=device)
        mask = (torch.arange(width, device=device) < lengths).long()
        with torch.inference_mode():
            logits = self._classifier(input_ids=ids, attention_mask=mask).logits
        return logits[:, 0].float().tolist()


def _rendered(tokenizer: Any, index: int, messages: Any, options: Any) -> list[int]:
    try:
        return _tokenize(tokenizer, messages, **options)["input_ids"]
    except Exception as error:  # templates may raise anything
        raise RewardError(
            index, f"the reward model's chat template refuses its messages: {error}"
        ) from error


def _options(columns: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    """What a row passes to the chat template."""
    found = {
        name: columns[name][index]
        for name in ("tools", "chat_template_kwargs")
        if name in columns and columns[name][index]
    }
    read = {n: json.loads(v) if isinstance(v, str) else v for n, v in found.items()}
    return {"tools": read.get("tools"), **read.get("chat_template_kwargs", {})}
