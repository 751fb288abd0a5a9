"""One branch read token by token, with its own prompt, cache and positions.

Preparation is generate's own: a callable `custom_generate` hands back the ids, the config and the
model kwargs right before decoding would start, whatever the architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from .inputs import check_room
from .method import Inputs
from .speaker import preparer, speaker

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache
    from transformers.utils import ModelOutput

CACHE_NAMES = ("past_key_values", "cache_params")


def cache_name(outputs: ModelOutput) -> str:
    """The name under which a model returns its cache.

    Raises:
        ValueError: It returns none.
    """
    for name in CACHE_NAMES:
        if outputs.get(name) is not None:
            return name
    raise ValueError(
        "two-branch decoding needs a cache, but the model returned none. Use a model that "
        "supports use_cache=True."
    )


class BranchRun:
    """A prompt and what was generated after it, as one model reads them.

    Args:
        model: The model that reads this branch, a Q-Former's pictures included.
        inputs: The branch's prompts, left padded, moved to the model's device.
        name: What to call it in an error.
        hidden: Keep the hidden states of each forward, for early exits.
    """

    def __init__(
        self, model: PreTrainedModel, inputs: Inputs, name: str, *, hidden: bool = False
    ) -> None:
        self.whole, self.inputs, self.name, self.hidden = model, inputs, name, hidden
        self.model = speaker(model)
        self.outputs: ModelOutput
        self.ids: Tensor
        self.kwargs: dict[str, Any]
        self.prompt_length = 0

    @property
    def cache(self) -> Cache:
        """The cache after the last forward."""
        return self.outputs[cache_name(self.outputs)]

    @property
    def generated(self) -> int:
        """How many tokens after the prompt the cache holds."""
        return self.ids.shape[1] - self.prompt_length

    def prefill(
        self,
        rows: int,
        room: int,
        drafted: Tensor | None = None,
        *,
        record: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Read the prompts, and `drafted` tokens `[rows, n]` after them.

        Args:
            rows: A multiple of the prompts: each is read rows / prompts times (beams).
            room: The most tokens that can come after the prompt.
            drafted: Tokens that follow the prompt.
            record: Let the cache roll back beyond a sliding window (assisted decoding).
            **settings: Generation settings that shape the cache or the prefill.

        Returns:
            Logits `[rows, n + 1, vocab]` of the prompt's last token and of the drafted ones.

        Raises:
            ValueError: The prompt and `room` don't fit into the model's context.
        """
        self.ids, config, self.kwargs = self._prepared(rows, room, settings)
        self.prompt_length = self.ids.shape[1]
        check_room(self.model, self.prompt_length, room, self.name)
        if record:
            self.kwargs[next(n for n in CACHE_NAMES if n in self.kwargs)].activate_past_recording()
        if self.hidden:
            self.kwargs["output_hidden_states"] = True
        if drafted is not None and drafted.shape[1]:
            self._append(drafted)
            self._grow({}, drafted.shape[1])
            return self._forward(1 + drafted.shape[1], first=True)
        self.outputs = self.model._prefill(self.ids, config, self.kwargs)
        return self.outputs.logits[:, -1:]

    def advance(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Read `tokens` `[rows, n]` and return their logits `[rows, n, vocab]`.

        Args:
            tokens: What follows.
            keep: Which of the n positions to return logits of; None returns all.
        """
        count = tokens.shape[1]
        check_room(self.model, self.ids.shape[1], count, self.name)
        self.ids = torch.cat([self.ids, tokens.to(self.ids.device)], dim=1)
        self._grow(self.outputs, count)
        return self._forward(count, first=False, keep=keep)

    def repeat(self, rows: int) -> None:
        """Go on from one prompt's cache with `rows` rows."""
        self.cache.batch_repeat_interleave(rows)
        self.ids = self.ids.expand(rows, -1)
        for key in _GROWING:
            value = self.kwargs.get(key)
            if value is not None and value.shape[-2] == 1:
                self.kwargs[key] = value.expand(*value.shape[:-2], rows, -1)

    def rewind(self, generated: int) -> None:
        """Forget all but the first `generated` tokens after the prompt."""
        dropped = self.generated - generated
        if dropped <= 0:
            return
        self.cache.crop(-dropped)
        self.ids = self.ids[:, :-dropped]
        # An encoder-decoder's attention_mask is its encoder's, which reads no generated token.
        fixed = ("attention_mask",) if self.model.config.is_encoder_decoder else ()
        for key in _GROWING:
            if key not in fixed and self.kwargs.get(key) is not None:
                self.kwargs[key] = self.kwargs[key][..., :-dropped]

    def reorder(self, index: Tensor) -> None:
        """Let row i go on from what row `index[i]` has read. Rows of one prompt only."""
        self.cache.reorder_cache(index)
        self.ids = self.ids.index_select(0, index.to(self.ids.device))

    def _prepared(
        self, rows: int, room: int, settings: dict[str, Any]
    ) -> tuple[Tensor, GenerationConfig, dict[str, Any]]:
        captured: dict[str, Any] = {}

        def capture(
            model: PreTrainedModel,
            input_ids: Tensor,
            logits_processor: object,
            stopping_criteria: object,
            generation_config: GenerationConfig,
            **kwargs: Any,
        ) -> Tensor:
            captured.update(ids=input_ids, config=generation_config, kwargs=kwargs)
            return input_ids

        own = self.model.generation_config
        copies = rows // len(self.inputs["input_ids"])
        chosen = {
            "bos_token_id": own.bos_token_id,
            "eos_token_id": own.eos_token_id,
            "pad_token_id": own.pad_token_id if own.pad_token_id is not None else 0,
            "decoder_start_token_id": own.decoder_start_token_id,
            **settings,
        }
        config = GenerationConfig(
            max_new_tokens=room,
            num_beams=copies,
            num_return_sequences=1,
            do_sample=False,
            use_cache=True,
            **chosen,
        )
        inputs = {key: _placed(x, self.model) for key, x in self.inputs.items()}
        preparing = preparer(self.whole, inputs)
        preparing.generate(**inputs, generation_config=config, custom_generate=capture)
        return captured["ids"], captured["config"], captured["kwargs"]

    def _append(self, drafted: Tensor) -> None:
        drafted = drafted.to(self.ids.device)
        self.ids = torch.cat([self.ids, drafted], dim=1)
        if (embedded := self.kwargs.get("inputs_embeds")) is not None:
            tokens = self.model.get_input_embeddings()(drafted)
            self.kwargs["inputs_embeds"] = torch.cat([embedded, tokens], dim=1)

    def _forward(self, count: int, *, first: bool, keep: Tensor | None = None) -> Tensor:
        inputs = self.model.prepare_inputs_for_generation(
            self.ids,
            next_sequence_length=None if first else count,
            is_first_iteration=first,
            **self.kwargs,
        )
        wanted = count if keep is None else keep.to(self.ids.device)
        if sliced := "logits_to_keep" in inputs:
            inputs["logits_to_keep"] = wanted
        self.outputs = self.model(**inputs, return_dict=True)
        if keep is None:
            return self.outputs.logits[:, -count:]
        return self.outputs.logits if sliced else self.outputs.logits[:, -count:][:, keep]

    def _grow(self, outputs: Any, count: int) -> None:
        types = self.kwargs.get("token_type_ids")
        if types is not None:
            # transformers repeats the last `count` types in order, for a draft several of them.
            self.kwargs["token_type_ids"] = types[:, -1:].expand(-1, count)
        self.kwargs = self.model._update_model_kwargs_for_generation(
            outputs,
            self.kwargs,
            is_encoder_decoder=self.model.config.is_encoder_decoder,
            num_new_tokens=count,
        )
        if types is not None:
            added = self.kwargs["token_type_ids"][:, -count:]
            self.kwargs["token_type_ids"] = torch.cat([types, added], dim=1)


def _placed(value: Any, model: PreTrainedModel) -> Any:
    """Move a tensor to the model's device, and pixels to its dtype."""
    # Weights that accelerate keeps offloaded are "meta"; its hooks then move the inputs.
    if not isinstance(value, Tensor) or model.device.type == "meta":
        return value
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


_GROWING = (
    "attention_mask",
    "position_ids",
    "token_type_ids",
    "mm_token_type_ids",
    "decoder_attention_mask",
    "decoder_position_ids",
)
