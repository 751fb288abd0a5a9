"""The options of CoPG."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from contralign.decoding.checks import positive, whole

from .config import PreferenceConfig
from .data.needs import PROMPTS, SCORED, Needs
from .losses import CoPG

OF_SAMPLES = ("num_generations", "max_completion_length", "temperature")


@dataclass
class CoPGConfig(PreferenceConfig):
    """Options of `CoPGTrainer`: those of `PreferenceConfig`, the loss, and how samples are drawn.

    Attributes:
        beta: How strongly the policy is held to the reference, in units of the scores.
        online: Whether completions are sampled from the policy at each update, in place of those of
            the data; a reward scores them.
        num_generations: Completions to sample for each prompt.
        max_completion_length: Tokens of the longest sample; prompt and sample fit max_length.
        temperature: Of sampling. Policy and reference are then those at this temperature.
    """

    beta: float = 0.06
    online: bool = False
    num_generations: int = 4
    max_completion_length: int = 128
    temperature: float = 1.0

    @property
    def needs(self) -> Needs:
        """Prompts alone online, else scored completions."""
        return PROMPTS if self.online else SCORED

    @property
    def measured(self) -> tuple[str, ...]:
        """Scores too; online, the share of samples without an end."""
        sampled = ("completions/clipped",) if self.online else ()
        return (*super().measured, "scores/mean", "rewards/correlation", *sampled)

    @property
    def row_length(self) -> int | None:
        """Online, samples need room behind the prompt."""
        if self.max_length is None or not self.online:
            return self.max_length
        return self.max_length - self.max_completion_length + 1

    @property
    def scored_temperature(self) -> float:
        """Samples are scored by the distribution that they are drawn from."""
        return float(self.temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss()
        whole("num_generations", self.num_generations, 2)
        whole("max_completion_length", self.max_completion_length, 1)
        positive("temperature", self.temperature)
        self._check_online()

    def _check_online(self) -> None:
        defaults = {one.name: one.default for one in fields(self) if one.default is not MISSING}
        for name in OF_SAMPLES:
            if not self.online and getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name} is of samples, got {getattr(self, name)} without online. Set online: "
                    "true, or leave it out."
                )
        if self.online and self.reference == "cached":
            raise ValueError(
                "every sample is new, so there is nothing to keep, got reference: cached with "
                "online. Set reference: base."
            )
        if (
            self.online
            and self.max_length is not None
            and self.max_completion_length >= (self.max_length)
        ):
            raise ValueError(
                f"max_length holds a prompt and a sample, got {self.max_length} with "
                f"max_completion_length {self.max_completion_length}. Lower the latter."
            )

    def loss(self) -> CoPG:
        """Make the loss.

        Raises:
            ValueError: A value is out of range.
        """
        return CoPG(self.beta)
