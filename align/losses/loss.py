"""What a preference loss is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..batch import Batch

Metrics = dict[str, Float[Tensor, "prompts ..."]]


@runtime_checkable
class Loss(Protocol):
    """A frozen dataclass of a paper's hyper-parameters, called as a pure function."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss as its paper has it compares with a reference."""
        ...

    def __call__(
        self,
        policy: Float[Tensor, "prompts k tokens"],
        reference: Float[Tensor, "prompts k tokens"] | None,
        batch: Batch,
    ) -> tuple[Float[Tensor, " prompts"], Metrics]:
        """Compute the loss of each example.

        Args:
            policy: The policy's log-probs of the completions' tokens, in nats, padded as
                `batch.mask` is.
            reference: The reference's, without gradient; None takes 0, which is reference-free.
            batch: What was scored; its columns may hold margins, labels or scores. Weights aren't
                applied here.

        Returns:
            The losses, and detached metrics of each example.

        Raises:
            ValueError: The batch isn't what the loss is defined on.
        """
        ...
