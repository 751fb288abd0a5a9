"""Turn what the user passed into branches that can be read, checked before any forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .inputs import as_branches, checked
from .method import EarlyExit, Inputs, Method
from .run import BranchRun
from .vocabulary import place_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Sources:
    """Where the rule's arguments come from, in their order: prompts first, then early layers.

    Attributes:
        main: The main prompts, with their attention mask.
        runs: One for each contrast that has a prompt of its own, not yet read.
        exits: The layers of the expert's own forward.
        places: Ids that stand for pictures, which must not be generated.
    """

    main: Inputs
    runs: list[BranchRun]
    exits: list[EarlyExit]
    places: list[int]


def resolved(
    model: PreTrainedModel,
    inputs: Inputs,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None,
) -> Sources:
    """Check the main prompts and every branch, and say who reads what.

    Args:
        model: The expert, out of any wrapper, with what prepares its pictures.
        inputs: The main prompts.
        method: What to decode with.
        branch: The contrast branches' inputs.

    Raises:
        ValueError: Inputs or branches that can't be decoded.
    """
    main = checked(inputs, "the main prompt", model)
    sources: Sources = Sources(main, [], [], place_ids(model))
    for source in method.sources(model, main, as_branches(branch)):
        if isinstance(source, EarlyExit):
            sources.exits.append(source)
            continue
        reader, name = source.model or model, f"contrast branch {len(sources.runs) + 1}"
        given = checked(source.inputs, name, reader, len(main["input_ids"]))
        sources.runs.append(BranchRun(reader, given, name))
    return sources
