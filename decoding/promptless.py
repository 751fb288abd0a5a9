"""Methods that need no second prompt: plain decoding, an amateur model, an early layer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .method import Inputs, Method, Source
from .prompts import Messages
from .speaker import speaker

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Promptless(Method):
    """A method whose contrasts, if any, are made from the main inputs."""

    @abstractmethod
    def own_sources(self, model: PreTrainedModel, inputs: Inputs) -> list[Source]:
        """Say where each contrast of `rule` comes from, given the model and its inputs alone."""

    def branches(
        self,
        processor: Any,
        messages: Sequence[Messages],
        images: Sequence[Any] | None = None,
        contrast: Sequence[Messages] | None = None,
        seeds: Sequence[int] | None = None,
        model: Any = None,
    ) -> list[Inputs]:
        """Return no branch: whatever the arguments, there is nothing to build before `generate`."""
        return []

    def sources(
        self, model: PreTrainedModel, inputs: Inputs, branch: Sequence[Inputs]
    ) -> list[Source]:
        """Refuse branch inputs and make the sources from the main ones.

        Raises:
            ValueError: A branch was given.
        """
        if branch:
            raise ValueError(
                f"{type(self).__name__} reads no second prompt, but got {len(branch)} branch(es). "
                "Leave branch= out."
            )
        return self.own_sources(speaker(model), inputs)
