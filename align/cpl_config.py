"""The options of CPL."""

from __future__ import annotations

from dataclasses import dataclass, replace

from contralign.decoding.checks import whole

from .config import PreferenceConfig
from .data.needs import PAIRS, RANKINGS, Needs
from .losses import CPL


@dataclass
class CPLConfig(PreferenceConfig):
    """Options of `CPLTrainer`: those of `PreferenceConfig`, and the loss.

    Attributes:
        alpha: Factor of log-probs; DPO's beta.
        gamma: The discount of a completion's tokens, from its first; in (0, 1].
        lmbda: The paper's lambda, in (0, 1]: factor of the rejected side, of pairs only. Below 1 it
            saturates on long texts, which is warned of.
        kl: CPL (KL): log-ratios to the reference in place of log-probs. Without, the reference is
            none by default, and one that is named is only measured against.
        average: Whether log-probs are averaged over a completion's tokens (ours).
        bc_coeff: CPL (BC): weight of the chosen answers' negative log-prob, a mean over tokens.
        bc_steps: Updates that only imitate chosen answers, at a constant learning rate; after them
            the optimizer and the schedule start anew.
    """

    alpha: float = 0.1
    gamma: float = 1.0
    lmbda: float = 1.0
    kl: bool = False
    average: bool = False
    bc_coeff: float = 0.0
    bc_steps: int = 0

    @property
    def needs(self) -> Needs:
        """Pairs or rankings; with lambda, pairs."""
        if self.lmbda == 1:
            return RANKINGS
        return replace(PAIRS, numbers=RANKINGS.numbers)

    @property
    def measured(self) -> tuple[str, ...]:
        """With lambda, the share of pairs that it saturates too."""
        return (*super().measured, *(("rewards/saturated",) if self.lmbda < 1 else ()))

    def __post_init__(self) -> None:
        follows = self.precompute_ref_log_probs or self.sync_ref_model
        if self.reference is None and not (self.kl or follows):
            self.reference = "none"
        super().__post_init__()
        self.loss()
        if self.kl and self.reference == "none":
            raise ValueError(
                "kl compares with a reference, got reference: none. Set it to base, or leave kl "
                "out."
            )
        whole("bc_steps", self.bc_steps, 0)
        if 0 < self.max_steps <= self.bc_steps:
            raise ValueError(_nothing_left(self.bc_steps, self.max_steps))
        if self.bc_steps and self.deepspeed_plugin is not None:
            raise ValueError(
                f"bc_steps starts the optimizer anew, which DeepSpeed's can't, got {self.bc_steps}."
                " Train with DDP or FSDP, or set it to 0."
            )

    def loss(self) -> CPL:
        """Make the loss.

        Raises:
            ValueError: A value is out of range.
        """
        return CPL(self.alpha, self.gamma, self.lmbda, self.kl, self.bc_coeff, self.average)

    def updates_after_cloning(self, updates: int) -> int:
        """How many updates are left for CPL.

        Raises:
            ValueError: None.
        """
        if updates <= self.bc_steps:
            raise ValueError(_nothing_left(self.bc_steps, updates))
        return updates - self.bc_steps


def _nothing_left(bc_steps: int, updates: int) -> str:
    return (
        f"bc_steps comes before CPL and leaves updates for it, got {bc_steps} of {updates}. Lower "
        "it, or train longer."
    )
