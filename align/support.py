"""What keeps a model from a path of the engine, by its class and config; the rest a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from contralign.decoding.speaker import hands_over

_PICTURES = ("pixel_values", "qformer_input_ids", "qformer_attention_mask")
ATTENTION = {"full_attention", "sliding_attention"}


def language_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, adapters active."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def backbone(model: Any) -> Any:
    """What makes hidden states of a model's inputs: the model without its head."""
    return _Handed(model) if hands_over(model) else model.base_model


@dataclass(frozen=True)
class _Handed:
    """A Q-Former's language model without its head, pictures put into their places.

    Attributes:
        model: BLIP-2 or InstructBLIP, whose own forward calls the head too.
    """

    model: Any

    @property
    def config(self) -> Any:
        """Of the whole model."""
        return self.model.config

    def __call__(self, input_ids: Any, **inputs: Any) -> Any:
        embedded = self.model.get_input_embeddings()(input_ids)
        pictures = {name: inputs.pop(name) for name in [*inputs] if name in _PICTURES}
        if pictures:
            seen = self.model.get_image_features(**pictures, return_dict=True).pooler_output
            places = self.model.get_placeholder_mask(input_ids, inputs_embeds=embedded)
            embedded = embedded.masked_scatter(places, seen.to(embedded))
        return self.model.language_model.base_model(inputs_embeds=embedded, **inputs)


def learns_prompt(model: Any) -> bool:
    """Whether a PEFT model puts virtual tokens before every prompt."""
    return isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning


def refuse_generator(model: Any, what: str, key: str) -> None:
    """Refuse a policy of which a generator would look past a part.

    Args:
        model: The policy.
        what: The generator; it reads the language model inside the PEFT wrapper, and text.
        key: The option that asked for it.

    Raises:
        ValueError: With the way out.
    """
    inner = language_model(model)
    reason = None
    if inner.config.get_text_config() is not inner.config:
        reason = f"{type(inner).__name__} reads more than text"
    elif isinstance(model, PeftModel) and _in_wrapper(model.active_peft_config):
        kind = model.active_peft_config.peft_type.value
        reason = f"this {kind} adapter works in PEFT's wrapper, which it looks past"
    if reason:
        raise cannot_draw(what, reason, key)


def cannot_draw(what: str, reason: str, key: str) -> ValueError:
    """What to say where a generator can't serve a policy."""
    return ValueError(f"{what} can't draw samples of this policy: {reason}. Set {key}: false.")


def _in_wrapper(adapter: Any) -> bool:
    return bool(adapter.is_prompt_learning or getattr(adapter, "alora_invocation_tokens", None))


def refuse_unscorable(model: Any) -> None:
    """Refuse what no path can score.

    Raises:
        ValueError: An encoder-decoder, or a model without a language-model head.
    """
    inner = language_model(model)
    if getattr(inner.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(inner).__name__} is an encoder-decoder, whose completions go on from another "
            "sequence than the prompt. Use a decoder-only model."
        )
    if inner.get_output_embeddings() is None:
        raise ValueError(
            f"{type(inner).__name__} has no language-model head. Load it with "
            "AutoModelForCausalLM or AutoModelForImageTextToText."
        )


def obstacles(model: Any, path: str) -> list[str]:
    """Say why a model can't take a path; empty means that it may be tried.

    Args:
        model: A model of transformers, or a PEFT model around one.
        path: "packed", "prefix" or "padded".
    """
    if path == "padded":
        return []
    inner = language_model(model)
    reasons = []
    if learns_prompt(model):
        reasons.append("its adapter puts virtual tokens before every prompt")
    if _recurrent(inner):
        reasons.append("a recurrent layer's state can't be shared by the completions of a prompt")
    if path == "packed":
        kinds = set(getattr(inner.config.get_text_config(), "layer_types", None) or ())
        if odd := kinds - ATTENTION:
            reasons.append(f"it has layers of the kind {', '.join(sorted(odd))}")
        if not getattr(inner, "_supports_attention_backend", False):
            reasons.append("its attention can't be replaced through AttentionInterface")
    elif inner.is_activation_checkpointing:
        reasons.append("gradient checkpointing drops the cache of the prompts")
    return reasons


def _recurrent(model: Any) -> bool:
    if getattr(model, "_is_stateful", False):
        return True
    layers = DynamicCache(config=model.config.get_text_config()).layers
    return any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
