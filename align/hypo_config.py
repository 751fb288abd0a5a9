"""The options of HyPO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from contralign.decoding.checks import whole

from .data.needs import PAIRS, Needs
from .losses import HyPO
from .online_config import OnlineConfig


@dataclass
class HyPOConfig(OnlineConfig):
    """Options of `HyPOTrainer`: those of `OnlineConfig`, and the loss.

    Attributes:
        beta: How strongly the policy is held to the reference on the data, as in DPO.
        lmbda: The paper's lambda: weight of the KL to the reference on samples of the policy; 0 is
            DPO, which draws none. 0.01 is ours.
        baseline: none, the paper's; leave_one_out takes the mean of a prompt's other samples off,
            which needs two or more and lowers the variance (ours).
        num_generations: Samples of each prompt; 1, the paper's, by default.
        online_prompts: Of each batch of a process, how many prompts get samples, the first ones;
            their KL then stands for all. Default: all.
        label_smoothing: Share of the preferences that are taken to be the wrong way round (cDPO).
    """

    beta: float = 0.1
    lmbda: float = 0.01
    baseline: Literal["none", "leave_one_out"] = "none"
    num_generations: int = 1
    online_prompts: int | None = None
    label_smoothing: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether there are samples at all."""
        return self.lmbda > 0

    @property
    def needs(self) -> Needs:
        """Pairs, whose prompts leave room for samples."""
        return replace(PAIRS, room=self.max_completion_length) if self.draws else PAIRS

    @property
    def measured(self) -> tuple[str, ...]:
        """The KL on samples and their length too."""
        return (*super().measured, *(("samples/kl", "samples/length") if self.draws else ()))

    def __post_init__(self) -> None:
        # A lambda that's none would be taken for no samples.
        self.loss()
        super().__post_init__()
        if self.online_prompts is not None:
            whole("online_prompts", self.online_prompts, 1)
            if self.online_prompts > self.per_device_train_batch_size:
                raise ValueError(
                    "online_prompts are some of a batch, of which per_device_train_batch_size is "
                    f"{self.per_device_train_batch_size}, got {self.online_prompts}. Leave it out "
                    "for all."
                )
        if self.draws and self.reference == "none":
            raise ValueError(
                "HyPO holds the policy to a reference, got reference: none. Set it to base."
            )
        if self.draws and self.baseline == "leave_one_out":
            self._check_others()

    def _check_others(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                "a leave-one-out baseline is the mean of a prompt's other samples, got "
                f"num_generations: {self.num_generations}. Set 2 or more, or baseline: none."
            )

    def _of_samples(self) -> tuple[str, ...]:
        return (*super()._of_samples(), "baseline", "online_prompts")

    def _how_to_draw(self) -> str:
        return "Set lmbda above 0"

    def loss(self) -> HyPO:
        """Make the loss.

        Raises:
            ValueError: A value is out of range.
        """
        return HyPO(self.beta, self.lmbda, self.baseline, self.label_smoothing)
