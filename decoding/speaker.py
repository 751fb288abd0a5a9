"""The model that generates: itself, or the language model that a Q-Former hands its picture to.

BLIP-2 and InstructBLIP have a `generate` of their own, which turns pictures into embeddings and
then calls `generate` of the language model inside. That one is contrasted; the whole model prepares
what each branch reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Blip2ForConditionalGeneration, InstructBlipForConditionalGeneration

from .method import Inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HANDS_OVER = (Blip2ForConditionalGeneration, InstructBlipForConditionalGeneration)


def hands_over(model: Any) -> bool:
    """Whether its `generate` calls that of a decoder-only language model inside."""
    return isinstance(model, _HANDS_OVER) and not model.language_model.config.is_encoder_decoder


def speaker(model: Any) -> PreTrainedModel:
    """The model whose logits are contrasted."""
    return model.language_model if hands_over(model) else model


def speaks_as(first: PreTrainedModel, second: PreTrainedModel) -> bool:
    """Whether two models read and write text with the same modules, whatever they see with."""
    if first is second:
        return True
    heads = [model.get_output_embeddings() for model in (first, second)]
    return first.get_decoder() is second.get_decoder() and heads[0] is heads[1]


def preparer(model: Any, inputs: Inputs) -> PreTrainedModel:
    """The model whose `generate` takes these inputs: text alone goes straight to the speaker."""
    return model if "pixel_values" in inputs else speaker(model)


def with_speaker(model: Any, other: PreTrainedModel) -> PreTrainedModel:
    """The model with another speaker; all else is shared, and the model itself left alone."""
    if not hands_over(model):
        return other
    clone = object.__new__(type(model))
    clone.__dict__.update(model.__dict__)
    clone.__dict__["_modules"] = {**model._modules, "language_model": other}
    return clone
