"""The options of CoPG."""

from __future__ import annotations

from dataclasses import dataclass, replace

from contralign.decoding.checks import whole

from .data.needs import PROMPTS, SCORED, Needs
from .losses import CoPG
from .online_config import OnlineConfig


@dataclass
class CoPGConfig(OnlineConfig):
    """Options of `CoPGTrainer`: those of `OnlineConfig`, and the loss.

    Attributes:
        beta: How strongly the policy is held to the reference, in units of the scores.
        online: Whether completions are sampled from the policy at each update, in place of those of
            the data; a reward scores them.
    """

    beta: float = 0.06
    online: bool = False

    @property
    def draws(self) -> bool:
        """Whether there are samples at all."""
        return self.online

    @property
    def needs(self) -> Needs:
        """Prompts with room for samples online, else scored completions."""
        return replace(PROMPTS, room=self.max_completion_length) if self.online else SCORED

    @property
    def measured(self) -> tuple[str, ...]:
        """Scores too."""
        return (*super().measured, "scores/mean", "rewards/correlation")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss()
        whole("num_generations", self.num_generations, 2)

    def loss(self) -> CoPG:
        """Make the loss.

        Raises:
            ValueError: A value is out of range.
        """
        return CoPG(self.beta)
