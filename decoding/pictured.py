"""Methods on pictures: their branches are made from the prompt's own images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image

from .method import Inputs, Method
from .prompts import Messages, opened_for


@dataclass(frozen=True)
class Prompts:
    """What branches are made from: prompts that all have open pictures and a seed.

    Attributes:
        processor: The model's.
        messages: One prompt each.
        images: The pictures of each, one at least.
        seeds: One for each, for what is drawn.
        model: The model that will decode, or None.
    """

    processor: Any
    messages: Sequence[Messages]
    images: Sequence[Sequence[Image]]
    seeds: Sequence[int]
    model: Any


class Pictured(Method):
    """A method that every prompt must have a picture for."""

    @abstractmethod
    def views(self, prompts: Prompts) -> list[Inputs]:
        """Build the branch inputs."""

    def branches(
        self,
        processor: Any,
        messages: Sequence[Messages],
        images: Sequence[Any] | None = None,
        contrast: Sequence[Messages] | None = None,
        seeds: Sequence[int] | None = None,
        model: Any = None,
    ) -> list[Inputs]:
        """Build the contrast branches from the pictures; `contrast` has no part in it.

        Raises:
            ValueError: A prompt without a picture, or another number of seeds than of prompts.
        """
        opened = opened_for(processor, messages, images)
        bare = [index for index, row in enumerate(opened) if not row]
        if bare:
            raise ValueError(
                f"{type(self).__name__} is about pictures, but prompts {bare} have none. Give each "
                "one or more, images=[[...], ...], or choose a method for text."
            )
        if seeds is None:
            seeds = torch.randint(2**63 - 1, (len(messages),)).tolist()
        if len(seeds) != len(messages):
            raise ValueError(
                f"seeds needs one per prompt, got {len(seeds)} for {len(messages)}. Leave them out "
                "to have them drawn."
            )
        return self.views(Prompts(processor, messages, opened, seeds, model))
