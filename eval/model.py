"""A causal language model that answers asks with any decoding method.

The model's own generation config is not used, except for its end-of-sequence tokens: hub configs
carry sampling, temperature and repetition penalties, which would decode every method with something
else than what its name says. Greedy is greedy, and sampling is at temperature 1 from all tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
)

from contralign.decoding import Decoding, Messages, encode, wrap

from .answers import Answer
from .ask import Ask
from .fingerprint import fingerprint
from .sampling import KeyedSampling

DTYPES = ("auto", "float32", "bfloat16", "float16")
CHAT = ("auto", "on", "off")


class LanguageModel:
    """A model with its tokenizer, and how it is asked.

    Args:
        model: A causal language model, PEFT-wrapped or not; it is never changed.
        tokenizer: Its tokenizer, with a pad token.
        chat: Ask through the chat template: "on", "off", or "auto", when there is one.
        system: What the system turn says; None leaves it to the template.

    Raises:
        ValueError: Chat settings that the tokenizer can't follow.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, chat: str = "auto", system: str | None = None
    ) -> None:
        self.model, self.tokenizer, self.system = model, tokenizer, system
        self.chat = _uses_chat(chat, bool(tokenizer.chat_template))
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
            ValueError: An unknown dtype, or chat settings that the tokenizer can't follow.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        _uses_chat(chat, bool(tokenizer.chat_template))
        model = _weights(name_or_path, revision, dtype, device, adapter)
        return cls(model, tokenizer, chat=chat, system=system)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What every answer depends on besides the ask: weights, dtype, versions, chat settings."""
        return {**fingerprint(self.model), "chat": self.chat, "system": self.system}

    def check(self, asks: Sequence[Ask], decoding: Decoding, execution: str = "auto") -> None:
        """Refuse what this model can't answer with this method, before anything runs.

        Raises:
            ValueError: Asks with images, a missing contrast, or a method that the model can't do.
        """
        if any(ask.images for ask in asks):
            raise ValueError(
                f"{type(self.model).__name__} reads text alone, but an ask has images. "
                "Use a benchmark of text."
            )
        example = next((ask for ask in asks if ask.contrast is None), asks[0])
        inputs, branch = self._encoded([example], decoding, [0])
        decoding.method.sources(self.model, inputs, branch)
        wrap(self.model, decoding.method, branch, execution)

    def answers(
        self,
        asks: Sequence[Ask],
        decoding: Decoding,
        seeds: Sequence[int],
        execution: str = "auto",
    ) -> list[Answer]:
        """Answer one batch.

        An ask that does not fit into the model's context gets an answer with an error; the others
        are answered without it.

        Args:
            asks: Of one `max_new_tokens`.
            decoding: The method and the search.
            seeds: One per ask, for sampling and for branches that draw noise.
            execution: See `contralign.decoding.wrap`.

        Raises:
            ValueError: A contrast is missing, or the asks can't go into one batch.
        """
        lengths = sorted({ask.max_new_tokens for ask in asks})
        if len(lengths) > 1:
            raise ValueError(
                f"a batch generates up to one max_new_tokens, got {lengths}. Make a batch of each."
            )
        overflows = self._overflows(asks, decoding, seeds)
        fitting = [i for i, overflow in enumerate(overflows) if overflow is None]
        said = self._said(
            [asks[i] for i in fitting], decoding, [seeds[i] for i in fitting], execution
        )
        found = dict(zip(fitting, said, strict=True))
        return [found.get(i) or Answer("", 0, overflow) for i, overflow in enumerate(overflows)]

    def _said(
        self, asks: Sequence[Ask], decoding: Decoding, seeds: Sequence[int], execution: str
    ) -> list[Answer]:
        if not asks:
            return []
        inputs, branch = self._encoded(asks, decoding, seeds)
        view: Any = wrap(self.model, decoding.method, branch, execution)
        view.generation_config = self._generation_config
        width = inputs["input_ids"].shape[1]
        output = view.generate(
            **self.placed(inputs),
            **_search(decoding, seeds, width),
            max_new_tokens=asks[0].max_new_tokens,
        )
        new = output[:, width:].tolist()
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [Answer(text, self._count(ids)) for text, ids in zip(texts, new, strict=True)]

    def _encoded(
        self, asks: Sequence[Ask], decoding: Decoding, seeds: Sequence[int]
    ) -> tuple[dict[str, Tensor], list[Any]]:
        prompts = [self.messages(ask.prompt) for ask in asks]
        given = [self.messages(ask.contrast) for ask in asks if ask.contrast is not None]
        contrast = given if len(given) == len(asks) else None
        branch = decoding.method.branches(self.tokenizer, prompts, contrast=contrast, seeds=seeds)
        return encode(self.tokenizer, prompts), branch

    def placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move encoded prompts to the model's device."""
        device = self.model.device
        # Weights that accelerate keeps offloaded are "meta"; its hooks then move the inputs.
        return {k: x if device.type == "meta" else x.to(device) for k, x in inputs.items()}

    def messages(self, prompt: str) -> Messages:
        """Turn a prompt into what `encode` takes: chat messages, or the text itself."""
        if not self.chat:
            return prompt
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": prompt}]

    def _overflows(
        self, asks: Sequence[Ask], decoding: Decoding, seeds: Sequence[int]
    ) -> list[str | None]:
        """For each ask, why it does not fit into the model's context, or None."""
        inputs, branch = self._encoded(asks, decoding, seeds)
        lengths = [given["attention_mask"].sum(-1) for given in (inputs, *branch)]
        config = self.model.config.get_text_config(decoder=True)
        limit = getattr(config, "max_position_embeddings", None)
        return [
            f"the prompt has {length} tokens and up to {ask.max_new_tokens} more are to come, but "
            f"the model's context holds {limit}"
            if limit is not None and length + ask.max_new_tokens > limit
            else None
            for length, ask in zip(torch.stack(lengths).amax(0).tolist(), asks, strict=True)
        ]

    @cached_property
    def _generation_config(self) -> GenerationConfig:
        own = self.model.generation_config
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


def _weights(
    name: str, revision: str | None, dtype: str, device: str | None, adapter: str | None
) -> Any:
    device_map = device or str(PartialState().device)
    model: Any = AutoModelForCausalLM.from_pretrained(
        name, revision=revision, dtype=dtype, device_map=device_map
    )
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter)).eval()


def _uses_chat(chat: str, has_template: bool) -> bool:
    if chat not in CHAT:
        raise ValueError(f"chat must be one of {', '.join(CHAT)}, got {chat!r}.")
    if chat == "on" and not has_template:
        raise ValueError(
            "chat='on' needs a chat template, and this tokenizer has none. Use chat='auto' or an "
            "instruction-tuned model."
        )
    return has_template and chat != "off"


def _search(decoding: Decoding, seeds: Sequence[int], width: int) -> dict[str, Any]:
    """Options of `generate`; a sample is the argmax of scores with each item's own noise."""
    if decoding.search != "sample":
        return decoding.generate_kwargs()
    noise = LogitsProcessorList([KeyedSampling(seeds, width)])
    return {"do_sample": False, "num_beams": 1, "logits_processor": noise}
