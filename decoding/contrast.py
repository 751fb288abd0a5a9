"""What one generate call with a method knows: its branches, how they run, and the last logits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .caches import has_attention, unmergeable
from .execution import Execution, Merged, Sequential
from .exits import check_readable, exit_logits
from .inputs import check_room
from .method import Method
from .run import cache_name
from .sources import Sources
from .speaker import speaks_as
from .vocabulary import aligned

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel
    from transformers.utils import ModelOutput

logger = logging.getLogger(__name__)

# What shapes a branch's decoder prompt, prefill and cache as it does the main one's.
_SHARED = (
    "prefill_chunk_size",
    "cache_implementation",
    "cache_config",
    "bos_token_id",
    "decoder_start_token_id",
)


class Contrast:
    """The state of one generate call: its branches, how they run, and the last logits.

    Args:
        base: The expert.
        method: The rule.
        sources: Where the rule's arguments come from.
        execution: What the user asked for.

    Raises:
        ValueError: Merged execution was asked for, but something rules it out.
    """

    def __init__(
        self, base: PreTrainedModel, method: Method, sources: Sources, execution: str
    ) -> None:
        self.base, self.method, self.asked = base, method, execution
        self.runs, self.exits, self.places = sources.runs, sources.exits, sources.places
        self.obstacle: str | None = None
        if any(not speaks_as(run.model, base) for run in self.runs):
            self._refuse_to_merge("a contrast read by another model")
        elif base.config.is_encoder_decoder:
            self._refuse_to_merge("an encoder-decoder")
        elif self.runs and rotates_by_length(base):
            self._refuse_to_merge("a rotary embedding that depends on the longest row")
        self.execution: Execution | None = None
        self.started = False
        self.count = 1
        self.length = self.prompt_length = 0
        self.drafting = False
        self.logits: list[Tensor] = []
        self.scores: Tensor

    def check_room(self, length: int, config: GenerationConfig) -> None:
        """Refuse prompts that outgrow a context before anything is read.

        Args:
            length: The main prompt's length, in tokens.
            config: Prepared by generate: `max_length` counts prompt and new tokens.
        """
        room = config.max_length - length
        check_room(self.base, length, room, "the main prompt")
        for run in self.runs:
            check_room(run.model, run.inputs["input_ids"].shape[1], room, run.name)

    def prefill(
        self,
        outputs: ModelOutput,
        kwargs: dict[str, Any],
        ids: Tensor,
        prompt_length: int,
        config: GenerationConfig,
    ) -> ModelOutput:
        """Read the branches' prompts after the expert has read its own, and mix."""
        room = config.max_length - prompt_length
        settings = {
            key: value for key in _SHARED if (value := getattr(config, key, None)) is not None
        }
        drafted = ids[:, prompt_length:]
        contrasts = [
            run.prefill(len(ids), room, drafted, record=self.drafting, **settings)
            for run in self.runs
        ]
        self.started, self.count = True, 1 + drafted.shape[1]
        self.length = self.prompt_length = prompt_length
        if self.exits:
            check_readable(self.base, outputs)
        if self.runs:
            self.execution = self._chosen(outputs, kwargs, prompt_length, room)
        return self.mix(outputs, contrasts)

    def mix(self, outputs: ModelOutput, contrasts: list[Tensor]) -> ModelOutput:
        """Replace the expert's logits `[rows, n, vocab]` by the rule's scores."""
        expert = outputs.logits[:, -self.count :]
        contrasts = contrasts + exit_logits(self.base, outputs, self.exits, self.count)
        self.logits = aligned(expert, contrasts, self.places)
        steps = torch.arange(self.count, device=expert.device) + self.length - self.prompt_length
        self.scores = outputs.logits = self.method.at(steps[:, None])(*self.logits)
        return outputs

    def ruled_out(self, length: int, scores: Tensor) -> Tensor:
        """The tokens that the rule gave `-inf` after `length` ids, none if that is not at hand."""
        position = length - self.length
        if not 0 <= position < self.count:
            return torch.zeros_like(scores, dtype=torch.bool)
        return self.scores[:, position].isneginf().to(scores.device)

    def again(self, length: int, allowed: Tensor) -> Tensor | None:
        """Apply the rule anew where only some tokens are allowed.

        Args:
            length: How many ids come before the token that is being chosen.
            allowed: The tokens it may be, `[rows, vocab]`.

        Returns:
            Scores on the device of `allowed`, or None where that step's logits aren't at hand.
        """
        position = length - self.length
        if not 0 <= position < self.count:
            return None
        expert, *contrasts = (x[:, position].to(allowed.device) for x in self.logits)
        rule = self.method.at(length - self.prompt_length)
        return rule(expert.masked_fill(~allowed, -torch.inf), *contrasts)

    def _chosen(
        self, outputs: ModelOutput, kwargs: dict[str, Any], prompt_length: int, room: int
    ) -> Execution:
        if odd := unmergeable(outputs[cache_name(outputs)]) or self._uneven(outputs, kwargs):
            self._refuse_to_merge(odd)
        if self.asked == "sequential" or self.obstacle:
            logger.info("execution: sequential (%s)", self.obstacle or "as asked")
            return Sequential(prompt_length, self.runs)
        logger.info("execution: merged, %d branches a forward", 1 + len(self.runs))
        return Merged(self.base, outputs, kwargs, prompt_length, self.runs, room)

    def _uneven(self, outputs: ModelOutput, kwargs: dict[str, Any]) -> str | None:
        """Name what the branches' rows can't share in one forward, or return None."""
        typed = {run.kwargs.get("token_type_ids") is None for run in self.runs}
        if typed != {kwargs.get("token_type_ids") is None}:
            return "token_type_ids that only some branches have"
        lengths = {run.ids.shape[1] - run.generated for run in self.runs}
        if lengths == {self.length}:
            return None
        if kwargs.get("position_ids") is None and has_attention(outputs[cache_name(outputs)]):
            return "a model that counts positions in its cache, with prompts of unequal lengths,"
        if kwargs.get("output_attentions"):
            return "output_attentions for prompts of unequal lengths"
        return None

    def _refuse_to_merge(self, obstacle: str) -> None:
        if self.asked == "merged":
            raise ValueError(
                f"execution='merged' runs all branches in one forward, which {obstacle} rules out. "
                "Use execution='auto' or 'sequential'."
            )
        self.obstacle = obstacle


def rotates_by_length(model: PreTrainedModel) -> bool:
    """Whether the rotary embedding takes its frequencies from the longest row of a forward."""
    rope = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
    layers = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return any(layer.get("rope_type") in ("longrope", "dynamic") for layer in layers)
