"""What one generate call with a method knows: its branches, how they run, and the last logits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .caches import unmergeable
from .execution import Execution, Merged, Sequential
from .exits import check_readable, exit_logits
from .method import Branch, EarlyExit, Method, Source
from .run import BranchRun, cache_name
from .vocabulary import aligned

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel
    from transformers.utils import ModelOutput

logger = logging.getLogger(__name__)


class Contrast:
    """The state of one generate call: its branches, how they run, and the last logits.

    Args:
        base: The user's model.
        method: The rule.
        sources: Where each contrast comes from.
        execution: What the user asked for.
    """

    def __init__(
        self, base: PreTrainedModel, method: Method, sources: Sequence[Source], execution: str
    ) -> None:
        self.base, self.method, self.asked = base, method, execution
        branches = [source for source in sources if isinstance(source, Branch)]
        self.exits = [source for source in sources if isinstance(source, EarlyExit)]
        self.runs = [
            BranchRun(branch.model or base, branch.inputs, f"contrast branch {i + 1}")
            for i, branch in enumerate(branches)
        ]
        self.shared = all(branch.model is None for branch in branches)
        self.execution: Execution | None = None
        self.started = False
        self.count = 1
        self.length = 0
        self.drafting = False
        self.logits: list[Tensor] = []

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
            key: value
            for key in ("prefill_chunk_size", "cache_implementation")
            if (value := getattr(config, key)) is not None
        }
        drafted = ids[:, prompt_length:]
        contrasts = [
            run.prefill(len(ids), room, drafted, record=self.drafting, **settings)
            for run in self.runs
        ]
        self.started, self.count, self.length = True, 1 + drafted.shape[1], prompt_length
        if self.exits:
            check_readable(self.base, outputs)
        if self.runs:
            self.execution = self._chosen(outputs, kwargs, prompt_length, room)
        return self.mix(outputs, contrasts)

    def mix(self, outputs: ModelOutput, contrasts: list[Tensor]) -> ModelOutput:
        """Replace the expert's logits `[rows, n, vocab]` by the rule's scores."""
        expert = outputs.logits[:, -self.count :]
        contrasts = contrasts + exit_logits(self.base, outputs, self.exits, self.count)
        self.logits = aligned(expert, contrasts)
        outputs.logits = self.method.rule(*self.logits)
        return outputs

    def at(self, length: int) -> list[Tensor] | None:
        """The raw logits that predict the token after `length` ones, if they are at hand."""
        position = length - self.length
        return [x[:, position] for x in self.logits] if 0 <= position < self.count else None

    def _chosen(
        self, outputs: ModelOutput, kwargs: dict[str, Any], prompt_length: int, room: int
    ) -> Execution:
        obstacle = self._obstacle(outputs)
        if self.asked == "merged" and obstacle:
            raise ValueError(
                f"execution='merged' runs all branches in one forward, which {obstacle} rules out. "
                "Use execution='auto' or 'sequential'."
            )
        if self.asked == "sequential" or obstacle:
            logger.info("execution: sequential (%s)", obstacle or "as asked")
            return Sequential(prompt_length, self.runs)
        logger.info("execution: merged, %d branches a forward", 1 + len(self.runs))
        return Merged(self.base, outputs, kwargs, prompt_length, self.runs, room)

    def _obstacle(self, outputs: ModelOutput) -> str | None:
        if not self.shared:
            return "a contrast read by another model"
        if self.base.config.is_encoder_decoder:
            return "an encoder-decoder"
        return unmergeable(outputs[cache_name(outputs)])
