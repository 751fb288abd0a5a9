"""The contrast branch that another model reads: a smaller one, or the same without its adapter."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM

from .clones import bare
from .digest import weights_digest
from .method import Branch, Inputs
from .readable import readable
from .refusals import unwrapped
from .vocabulary import check_same_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def amateur_branch(
    model: PreTrainedModel, inputs: Inputs, amateur: Any, context: str = "full"
) -> Branch:
    """Let an amateur read the main prompts.

    Args:
        model: The expert.
        inputs: The main prompts.
        amateur: A loaded model, a hub id or path, or "base" for the expert without its adapter.
        context: "full" shows the amateur the whole prompt, "last_token" only its last token.

    Raises:
        ValueError: No amateur, another vocabulary, or no adapter to take off.
    """
    if amateur is None:
        raise ValueError(
            "contrastive decoding needs an amateur, got None. Name one, a hub id or a path, as in "
            "cd:amateur=HuggingFaceTB/SmolLM2-135M, or base for a PEFT model without its adapter; "
            "CD(amateur=...) takes a loaded model too."
        )
    if amateur == "base":
        reader = without_adapter(model)
    else:
        reader = unwrapped(loaded(amateur) if isinstance(amateur, str) else amateur)
        check_same_vocabulary(model, reader)
    if context == "full":
        return Branch(inputs, reader)
    if others := sorted(inputs.keys() - {"input_ids", "attention_mask", "token_type_ids"}):
        raise ValueError(
            f"an amateur that sees the last token only can't be shown {', '.join(others)}. Use "
            "amateur_context='full'."
        )
    return Branch({key: inputs[key][:, -1:] for key in ("input_ids", "attention_mask")}, reader)


def amateur_digest(amateur: Any) -> str:
    """Digest the weights of an amateur that is a model of its own."""
    if amateur is None or amateur == "base":
        return ""
    return weights_digest(loaded(amateur) if isinstance(amateur, str) else amateur)


@lru_cache(maxsize=2)
def loaded(name: str) -> PreTrainedModel:
    """Load an amateur by hub id or path, in the dtype it was saved in, once.

    Raises:
        ValueError: It can't be read as either.
    """
    folder = Path(name).expanduser()
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"an amateur is a whole model, but {name} holds an adapter. Merge it into its base "
            "first: contralign merge."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with readable("an amateur", name):
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")
    return model.to(device).eval()


def without_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model as it is under its PEFT adapter, sharing every weight.

    Only the modules on the way to an adapter are cloned, so nothing is switched on or off and the
    user's model, also in another thread, keeps its adapter.

    Raises:
        ValueError: The model has no adapter, or it is merged into the weights.
    """
    if any(isinstance(module, BaseTunerLayer) and module.merged for module in model.modules()):
        raise ValueError(
            "amateur='base' needs the adapter beside the weights, but it is merged into them. "
            "Call unmerge_adapter() first, or load the model again."
        )
    found = bare(model)
    if found is model:
        raise ValueError(
            "amateur='base' contrasts a PEFT model with itself without its adapter, but this model "
            "has no adapter. Load one with PeftModel.from_pretrained, or name another amateur."
        )
    return found
