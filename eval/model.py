"""A language model, with eyes or without, that answers asks with any decoding method.

The model's own generation config is not used, except for its end-of-sequence tokens: hub configs
carry sampling, temperature and repetition penalties, which would decode every method with something
else than what its name says. Greedy is greedy, and sampling is at temperature 1 from all tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from contralign.decoding import Decoding, ImageError, Messages, encode, wrap
from contralign.decoding.inputs import context_size
from contralign.decoding.places import placed, sees
from contralign.decoding.prefix import Prefixes
from contralign.decoding.refusals import unwrapped
from contralign.decoding.speaker import speaker
from contralign.decoding.view import check_call
from contralign.devices import check_device

from .answers import Answer
from .ask import Ask
from .closed import Encoded, check_closed, closed_answers
from .fingerprint import fingerprint, image_processing, reading
from .loading import check_dtype, check_names, load_processor, load_weights, uses_chat
from .pictures import example, opened
from .sampling import search_options


class LanguageModel:
    """A model with its processor, and how it is asked.

    Attributes:
        tokenizer: The processor's own, or the processor itself.

    Args:
        model: A generating model, PEFT-wrapped or not; it is never changed.
        processor: Its tokenizer, or for a model with eyes its processor, with a pad token.
        chat: Ask through the chat template: "on", "off", or "auto", when there is one.
        system: What the system turn says; None leaves it to the template.

    Raises:
        ValueError: Chat settings that the processor can't follow.
    """

    def __init__(
        self, model: Any, processor: Any, *, chat: str = "auto", system: str | None = None
    ) -> None:
        unwrapped(model)  # refuses what can't generate
        self.model, self.processor, self.system = model, processor, system
        self.tokenizer = processor.tokenizer if sees(processor) else processor
        self.chat = uses_chat(chat, bool(processor.chat_template))
        if system is not None and not self.chat:
            raise ValueError(
                f"a system prompt needs the chat template, got system={system!r} without one. "
                "Put it into the prompts, or use an instruction-tuned model."
            )

    @classmethod
    def load(
        cls,
        name_or_path: str,
        *,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        adapter: str | None = None,
        chat: str = "auto",
        system: str | None = None,
    ) -> LanguageModel:
        """Load a model for measuring.

        Args:
            name_or_path: A hub id or a folder.
            dtype: Of the weights; "auto" as they were saved.
            device: A device, or a device map such as "auto"; None is this process's own device.
            revision: Branch, tag or commit on the hub.
            adapter: A PEFT adapter's hub id or folder, put on top.
            chat: See the class.
            system: See the class.

        Raises:
            ValueError: An unknown dtype, a device that isn't there, a name without a model or an
                adapter, or chat settings that the processor can't follow.
        """
        check_dtype(dtype)
        check_device(device)
        check_names(name_or_path, adapter, revision)
        processor = load_processor(name_or_path, revision)
        uses_chat(chat, bool(processor.chat_template))
        model = load_weights(name_or_path, revision, dtype, device, adapter)
        return cls(model, processor, chat=chat, system=system)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What every answer depends on besides the ask: weights, dtype, versions, chat settings."""
        seen = image_processing(self.processor) if sees(self.processor) else {}
        seen |= reading(self.processor, self._generation_config.eos_token_id)
        return {**fingerprint(self.model), **seen, "chat": self.chat, "system": self.system}

    def check(self, asks: Sequence[Ask], decoding: Decoding, execution: str = "auto") -> None:
        """Refuse what this model can't answer with this method, before anything runs.

        Tries one ask: another one's image may still turn out to be broken, which is its own error.

        Raises:
            ValueError: Asks with images, a missing contrast, or a method that the model can't do.
        """
        if any(ask.images for ask in asks) and not sees(self.processor):
            raise ValueError(
                f"{type(self.model).__name__} reads text alone, but an ask has images. "
                "Use a benchmark of text, or a model with eyes and its processor."
            )
        check_closed(asks, decoding, self.tokenizer)
        shortest, limit = min(ask.max_new_tokens for ask in asks), context_size(self.model)
        if limit is not None and shortest >= limit:
            raise ValueError(f"max_new_tokens must be below a context of {limit}, got {shortest}.")
        inputs, branch = self.encoded([example(asks)], decoding, [0])
        check_call(self.model, inputs, decoding.method, branch, execution)

    def answers(
        self,
        asks: Sequence[Ask],
        decoding: Decoding,
        seeds: Sequence[int],
        execution: str = "auto",
        noise_seeds: Sequence[int] | None = None,
    ) -> list[Answer]:
        """Answer one batch.

        An ask that does not fit into the model's context, or whose image can't be opened, gets an
        answer with an error; the others are answered without it.

        Args:
            asks: Of one `max_new_tokens`.
            decoding: The method and the search.
            seeds: One per ask, for sampling.
            execution: See `contralign.decoding.wrap`.
            noise_seeds: One per ask, for branches that draw noise; None takes `seeds`.

        Raises:
            ValueError: A contrast is missing, or the asks can't go into one batch.
        """
        lengths = sorted({ask.max_new_tokens for ask in asks})
        if len(lengths) > 1:
            raise ValueError(
                f"a batch generates up to one max_new_tokens, got {lengths}. Make a batch of each."
            )
        noise = seeds if noise_seeds is None else noise_seeds
        found: dict[int, Answer] = {}
        readable: dict[int, Ask] = {}
        for index, ask in enumerate(asks):
            try:
                readable[index] = opened(ask)
            except ImageError as error:
                found[index] = Answer("", 0, str(error))
        found |= self._answered(readable, decoding, seeds, noise, execution)
        return [found[index] for index in range(len(asks))]

    def _answered(
        self,
        asks: Mapping[int, Ask],
        decoding: Decoding,
        seeds: Sequence[int],
        noise: Sequence[int],
        execution: str,
    ) -> dict[int, Answer]:
        """Answer the asks whose images are open, by their index in the batch."""
        if not asks:
            return {}
        inputs, branch = self.encoded([*asks.values()], decoding, [noise[i] for i in asks])
        overflows = dict(zip(asks, self._overflows([*asks.values()], inputs, branch), strict=True))
        if any(overflows.values()):
            fitting = {i: ask for i, ask in asks.items() if overflows[i] is None}
            errors = {i: Answer("", 0, error) for i, error in overflows.items() if error}
            return errors | self._answered(fitting, decoding, seeds, noise, execution)
        if next(iter(asks.values())).reading != "text":
            return self._closed(asks, (inputs, branch), decoding, seeds, noise, execution)
        view: Any = wrap(self.model, decoding.method, branch, execution)
        speaker(view).generation_config = self._generation_config
        width = inputs["input_ids"].shape[1]
        output = view.generate(
            **self.placed(inputs),
            **search_options(decoding, [seeds[i] for i in asks], width),
            max_new_tokens=next(iter(asks.values())).max_new_tokens,
        )
        new = output[:, width:].tolist()
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        said = [Answer(text, self._count(ids)) for text, ids in zip(texts, new, strict=True)]
        return dict(zip(asks, said, strict=True))

    def _closed(
        self,
        asks: Mapping[int, Ask],
        encoded: Encoded,
        decoding: Decoding,
        seeds: Sequence[int],
        noise: Sequence[int],
        execution: str,
    ) -> dict[int, Answer]:
        """Read closed asks off their first token, and generate where it answers nothing."""
        rows, (first, *_) = [*asks.values()], [*asks]
        alone = self.encoded(rows[:1], decoding, [noise[first]])
        own = [seeds[i] for i in asks]
        said = closed_answers(self._prefixes, self.tokenizer, rows, encoded, alone, decoding, own)
        found = dict(zip(asks, said, strict=True))
        open_ = {i: replace(ask, reading="text") for i, ask in asks.items() if found[i] is None}
        generated = self._answered(open_, decoding, seeds, noise, execution)
        return {i: answer or replace(generated[i], off_label=True) for i, answer in found.items()}

    @cached_property
    def _prefixes(self) -> Prefixes:
        return Prefixes(self.model)

    def encoded(
        self, asks: Sequence[Ask], decoding: Decoding, noise: Sequence[int]
    ) -> tuple[dict[str, Tensor], list[Any]]:
        """Turn asks, their images open, into the main inputs and those of each contrast branch."""
        images = [ask.images for ask in asks]
        prompts = [self.messages(ask.prompt, len(ask.images)) for ask in asks]
        given = [
            self.messages(ask.contrast, len(ask.images)) for ask in asks if ask.contrast is not None
        ]
        branch = decoding.method.branches(
            self.processor,
            prompts,
            images,
            contrast=given if len(given) == len(asks) else None,
            seeds=noise,
            model=self.model,
        )
        return encode(self.processor, prompts, images), branch

    def placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move encoded prompts to the model's device, their pixels in its dtype."""
        device, dtype = self.model.device, self.model.dtype
        # Weights that accelerate keeps offloaded are "meta"; its hooks then move the inputs.
        return {
            key: x
            if device.type == "meta"
            else x.to(device, dtype if x.is_floating_point() else None)
            for key, x in inputs.items()
        }

    def messages(self, prompt: str, images: int = 0) -> Messages:
        """Turn a prompt into what `encode` takes: chat messages, or the text itself.

        Args:
            prompt: The user's turn.
            images: How many pictures it speaks about; they stand in front of it.
        """
        if not self.chat:
            return placed(self.processor, prompt, images)
        system = [] if self.system is None else [("system", 0, self.system)]
        return [
            {"role": role, "content": self._content(text, count)}
            for role, count, text in [*system, ("user", images, prompt)]
        ]

    def _content(self, text: str, images: int) -> str | list[dict[str, str]]:
        """Parts, where the template is a processor's: it may find nothing in a bare string."""
        if not sees(self.processor):
            return text
        return [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]

    def _overflows(
        self, asks: Sequence[Ask], inputs: Mapping[str, Tensor], branch: Sequence[Any]
    ) -> list[str | None]:
        """For each ask, why it does not fit into the model's context, or None."""
        lengths = [given["attention_mask"].sum(-1) for given in (inputs, *branch)]
        limit = context_size(self.model)
        return [
            f"the prompt has {length} tokens and up to {ask.max_new_tokens} more are to come, but "
            f"the model's context holds {limit}"
            if limit is not None and length + ask.max_new_tokens > limit
            else None
            for length, ask in zip(torch.stack(lengths).amax(0).tolist(), asks, strict=True)
        ]

    @cached_property
    def _generation_config(self) -> GenerationConfig:
        own = speaker(self.model).generation_config
        ends = self.tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id
        return GenerationConfig(
            bos_token_id=own.bos_token_id,
            eos_token_id=ends,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def _count(self, ids: Sequence[int]) -> int:
        ends = self._generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
