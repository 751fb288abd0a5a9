"""Options of `DCDTrainer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .config import PreferenceConfig


@dataclass
class DCDConfig(PreferenceConfig):
    """Options of `DCDTrainer`: those of `PreferenceConfig`, and which projections are trained.

    Attributes:
        variant: neg_only trains the negative projection on rejected answers, and the model's own is
            the positive one; pos_neg trains both, apart.
        learning_rate: At its peak; 1e-4 is ours.
        reference: none, as DCD compares with no model.
    """

    variant: Literal["neg_only", "pos_neg"] = "pos_neg"
    learning_rate: float = 1e-4
    reference: str | None = "none"

    @property
    def measured(self) -> tuple[str, ...]:
        """Surprise too; rewards are those of `DCDTrainer.compute_loss`."""
        return (*super().measured, "nll/chosen", "nll/rejected")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in ("neg_only", "pos_neg"):
            raise ValueError(f"variant is one of neg_only, pos_neg, got {self.variant!r}.")
        if self.reference != "none":
            raise ValueError(
                f"DCD has no reference, got reference: {self.reference}. Leave it out."
            )
        if self.eval_samples:
            raise ValueError(
                f"eval_samples are of models that are trained, got {self.eval_samples}. Leave it "
                "out; contralign generate --method dcd:path=... answers."
            )
