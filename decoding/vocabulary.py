"""Two models can only be contrasted token by token if a token id means the same to both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def aligned(
    expert: Tensor, contrasts: Sequence[Tensor], forbidden: Sequence[int] = ()
) -> list[Tensor]:
    """Bring all branches' logits to float32, the expert's device and one vocabulary.

    LM heads of one tokenizer can differ in padding: ids that some branch lacks are forbidden.

    Args:
        expert: Logits of the main branch, `[..., vocab]`.
        contrasts: Those of the others.
        forbidden: Ids that must not be generated.
    """
    expert = expert.float()
    if inside := [x for x in forbidden if x < expert.shape[-1]]:
        ids = torch.tensor(inside, device=expert.device)
        expert = expert.index_fill(-1, ids, -torch.inf)
    moved = [x.to(device=expert.device, dtype=torch.float32) for x in contrasts]
    width, common = expert.shape[-1], min(x.shape[-1] for x in [expert, *moved])
    return [F.pad(x[..., :common], (0, width - common), value=-torch.inf) for x in [expert, *moved]]


def place_ids(model: PreTrainedModel) -> list[int]:
    """The ids that stand for pictures, videos or sound in a prompt.

    Generated ones would have nothing to stand for: a contrast can make them the best token.
    """
    names = [
        f"{kind}_token_{end}" for kind in ("image", "video", "audio") for end in ("id", "index")
    ]
    found = {getattr(model.config, name, None) for name in names}
    return sorted(x for x in found if isinstance(x, int))


def check_same_vocabulary(expert: PreTrainedModel, amateur: PreTrainedModel) -> None:
    """Refuse an amateur whose token ids mean something else, or that lacks some.

    Compares the tokenizers saved with both models; where one has none, the vocabulary sizes. With
    one tokenizer the sizes may still differ in padding: rows that stand for no token.

    Raises:
        ValueError: The vocabularies differ.
    """
    names = [model.name_or_path for model in (expert, amateur)]
    first, second = (_vocabulary(name) for name in names)
    sizes = [vocabulary_size(model) for model in (expert, amateur)]
    found = f"they have {sizes[0]} and {sizes[1]} tokens"
    if first is None or second is None:
        same = sizes[0] == sizes[1]
    elif first != second:
        same, found = False, "their tokenizers differ"
    else:
        tokens = max(first.values(), default=-1) + 1
        same = sizes[1] >= min(tokens, sizes[0])
        found = f"the amateur has {sizes[1]} of its {tokens} tokens"
    if not same:
        raise ValueError(
            f"expert and amateur must share one tokenizer, but {found} ({names[0] or 'expert'}, "
            f"{names[1] or 'amateur'}). Take an amateur of the same model family."
        )


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many token ids a model reads and writes."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


@lru_cache(maxsize=8)
def _vocabulary(name: str) -> dict[str, int] | None:
    if not name:
        return None
    try:
        return AutoTokenizer.from_pretrained(name).get_vocab()
    except (OSError, ValueError):  # a model folder saved without its tokenizer
        logger.warning(
            "%s has no tokenizer beside the model, so an amateur is compared with its expert by "
            "the number of tokens alone: save the tokenizer there to have all compared",
            name,
        )
        return None
