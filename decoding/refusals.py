"""What can't be decoded with a contrast, refused by name before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from peft import PeftModel
from transformers import GenerationMixin

from .method import Method
from .speaker import hands_over

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_REFUSED = {
    "custom_generate": "replaces the loop that the contrast lives in",
    "past_key_values": "goes on from a cache that the contrast branches don't have",
    "inputs_embeds": "hides the tokens that the branches are checked against; pass input_ids",
    "adapter_names": "names an adapter for each row, but a forward here has several branches' rows",
    "cache_params": "goes on from a cache that the contrast branches don't have",
    "encoder_outputs": "hides the tokens that the branches are checked against; pass input_ids",
    "decoder_attention_mask": "belongs to decoder_input_ids, which the branches don't share",
    "decoder_input_ids": "starts the main branch's decoder elsewhere than the others'",
    "negative_prompt_ids": "belongs to guidance_scale; use the method CFG with a branch",
}
_REFUSED_SETTINGS = {
    "use_cache": (False, "the branches go on from their caches"),
    "cache_implementation": ("paged", "continuous batching has no place for branches"),
    "token_healing": (True, "it rewrites the main prompt's last token but no branch's"),
    "assistant_early_exit": (None, "it drafts with the view itself and would spoil its cache"),
    "use_mtp": (True, "it drafts with the view itself and would spoil its cache"),
    "penalty_alpha": (None, "contrastive search is a loop of its own; it was moved to the Hub"),
    "dola_layers": (None, "use the method DoLa"),
    "constraints": (None, "constrained beam search is a loop of its own; it was moved to the Hub"),
    "force_words_ids": (None, "constrained beam search is a loop of its own, moved to the Hub"),
}


def refuse_options(
    model: PreTrainedModel, options: dict[str, Any], handed: Collection[str] = ()
) -> None:
    """Refuse the options of one generate call that can't work.

    Args:
        model: Whose `generate` is called.
        options: Of the call.
        handed: Those that a Q-Former adds by itself.

    Raises:
        ValueError: Names the option, its value and why.
    """
    for name, reason in _REFUSED.items():
        if options.get(name) is not None and name not in handed:
            raise ValueError(f"{name} can't be combined with a decoding method: it {reason}.")
    # generate fills what its config leaves open from the model's.
    configs = (options.get("generation_config"), model.generation_config)
    for name, (bad, reason) in _REFUSED_SETTINGS.items():
        given = (options.get(name), *(getattr(config, name, None) for config in configs))
        value = next((one for one in given if one is not None), None)
        if value is not None and (bad is None or value == bad):
            raise ValueError(
                f"{name}={value!r} can't be combined with a decoding method: {reason}. Leave it "
                "out."
            )


def check_method(method: object) -> None:
    """Refuse what isn't a method, such as the name of one.

    Raises:
        ValueError: It's something else.
    """
    if not isinstance(method, Method):
        raise ValueError(
            f"a method is one of contralign.decoding's, such as CAD(), got {method!r:.80}. A name "
            "is read by parse, as in parse('cad:alpha=1').method."
        )


def refuse_method(method: Method) -> None:
    """Refuse what isn't a method, and one that weighs given answers and can't write one.

    Raises:
        ValueError: It can't generate.
    """
    check_method(method)
    if not method.generates:
        raise ValueError(
            f"{type(method).__name__} weighs closed answers and can't generate. Use closed or "
            "score, or another method."
        )


def unwrapped(model: Any) -> PreTrainedModel:
    """Return the transformers model inside a PEFT or torch.compile wrapper, adapters active.

    Raises:
        ValueError: Prompt-learning PEFT, a model without `generate`, or one with its own.
    """
    model = getattr(model, "_orig_mod", model)
    if isinstance(model, PeftModel):
        if model.active_peft_config.is_prompt_learning:
            raise ValueError(
                f"{model.active_peft_config.peft_type.value} puts virtual tokens before every "
                "prompt, which the branches can't share. Use LoRA or another adapter of weights."
            )
        model = model.get_base_model()
    if not isinstance(model, GenerationMixin):
        raise ValueError(
            f"decoding needs a transformers model with generate, got {type(model).__name__}. Load "
            "one with AutoModelForCausalLM."
        )
    own = type(model).generate is not GenerationMixin.generate and not hands_over(model)
    if "generate" in vars(model) or own:
        raise ValueError(
            f"{type(model).__name__} has a generate of its own, which this engine doesn't know. "
            "Use a model that inherits generate from transformers' GenerationMixin."
        )
    return model
