"""What a decoding method is: hyper-parameters, a pure rule over logits, sources of contrast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .prompts import Messages, encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Logits = Float[Tensor, "*rows vocab"]
Inputs = Mapping[str, Any]
Steps = int | Int[Tensor, "positions 1"]
Rule = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Branch:
    """A second opinion from a prompt of its own, read by the expert or by another model.

    Attributes:
        inputs: What `generate` takes: one row for each row of the main batch, left padded.
        model: Who reads them; None is the expert itself.
    """

    inputs: Inputs
    model: PreTrainedModel | None = None


@dataclass(frozen=True)
class EarlyExit:
    """A second opinion from a layer of the expert's own forward, read through its LM head.

    Attributes:
        layer: Index into `hidden_states`: 0 is the embedding's output, `l` the output of layer `l`.
    """

    layer: int


Source = Branch | EarlyExit


class Method(ABC):
    """A decoding method. Subclasses are frozen dataclasses whose fields are the paper's parameters.

    The law of every rule: a constant added to one row of any input adds only a constant to that row
    of the output, so raw logits and log-probs mean the same.
    """

    paper: ClassVar[str]
    generates: ClassVar[bool] = True

    @property
    def contrasts(self) -> int:
        """How many branches `rule` reads besides the expert."""
        return 1

    @property
    def digest(self) -> str:
        """Of what its answers depend on besides its parameters: files that they name."""
        return ""

    @abstractmethod
    def rule(self, expert: Logits, *contrasts: Logits) -> Logits:
        """Combine one distribution per branch into next-token scores.

        Args:
            expert: Raw float32 logits of the main branch; `-inf` marks a forbidden token.
            *contrasts: The same of each other branch.

        Returns:
            Un-normalised scores; `-inf` where a token must not be generated.
        """

    def logps(self, scores: Logits) -> Logits:
        """Turn scores into the log-probs that `score` reports."""
        return torch.log_softmax(scores, dim=-1)

    def at(self, steps: Steps) -> Rule:
        """Return the rule of given steps, for a method whose rule changes while it generates.

        Args:
            steps: How many tokens were generated before each position: one number, or a column of
                them for logits `[rows, positions, vocab]`.
        """
        return self.rule

    def branches(
        self,
        processor: Any,
        messages: Sequence[Messages],
        images: Sequence[Any] | None = None,
        contrast: Sequence[Messages] | None = None,
        seeds: Sequence[int] | None = None,
        model: Any = None,
    ) -> list[Inputs]:
        """Build the inputs of the contrast branches, to be passed on as `branch=`.

        Args:
            processor: The model's tokenizer or processor.
            messages: The main prompts: raw text, or a list of chat messages each.
            images: The images of each prompt, as `encode` takes them.
            contrast: The prompt each one is held against, whole: usually the same without context;
                it has the same images.
            seeds: One seed an example, for branches that draw something: what is drawn depends on
                nothing else. None takes seeds from PyTorch's generator.
            model: The model that will decode, for methods that ask it something first.

        Raises:
            ValueError: `contrast` is missing or of another length than `messages`.
        """
        if contrast is None:
            raise ValueError(
                f"{type(self).__name__} holds each prompt against another one, usually the same "
                "without its context, but got contrast=None. Pass contrast=[...], one per prompt."
            )
        if len(contrast) != len(messages):
            raise ValueError(
                f"contrast needs one prompt per message, got {len(contrast)} for {len(messages)}."
            )
        return [encode(processor, contrast, images)]

    def expert(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return what reads the main prompts: the model itself, or one that shares its weights.

        Args:
            model: Out of any wrapper.
        """
        return model

    def sources(
        self, model: PreTrainedModel, inputs: Inputs, branch: Sequence[Inputs]
    ) -> list[Source]:
        """Say where each contrast of `rule` comes from, given the branch inputs that were passed.

        Args:
            model: The expert, with what prepares its pictures.
            inputs: The main prompts.
            branch: The contrast branches' inputs.

        Raises:
            ValueError: The number of branches is not the number that `rule` reads.
        """
        if len(branch) != self.contrasts:
            raise ValueError(
                f"{type(self).__name__} reads {self.contrasts} contrast branch(es), got "
                f"{len(branch)}. Build them with method.branches(...) and pass them as branch=."
            )
        return [Branch(given) for given in branch]
