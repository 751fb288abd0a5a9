"""Options of completions that are drawn from the policy while it trains."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from contralign.decoding.checks import positive, whole

from .config import PreferenceConfig
from .vllm_options import VLLMOptions

OF_SAMPLES = (
    *("num_generations", "max_completion_length", "temperature", "refresh_every"),
    *("use_transformers_continuous_batching", "use_vllm"),
)


@dataclass
class OnlineConfig(VLLMOptions, PreferenceConfig):
    """Options of a trainer that draws samples of its own: where, and of vLLM those of TRL.

    The defaults are ours.

    Attributes:
        num_generations: Completions to sample for each prompt.
        max_completion_length: Tokens of the longest sample; prompt and sample fit max_length.
        temperature: Of sampling. Of samples, policy and reference are then those at this
            temperature.
        refresh_every: Updates between two times that samples see the policy's new weights. Above 1
            they are of an earlier policy, by `samples/lag` updates, which biases what is learned.
        use_transformers_continuous_batching: Whether transformers' continuous batching draws them,
            on text: a sample that has ended makes room. It draws what `generate` draws.
    """

    num_generations: int = 4
    max_completion_length: int = 128
    temperature: float = 1.0
    refresh_every: int = 1
    use_transformers_continuous_batching: bool = False

    @property
    def draws(self) -> bool:
        """Whether there are samples at all."""
        return True

    @property
    def measured(self) -> tuple[str, ...]:
        """The share of samples without an end too."""
        return (*super().measured, *(("completions/clipped",) if self.draws else ()))

    @property
    def scored_temperature(self) -> float:
        """Samples are scored by the distribution that they are drawn from."""
        return float(self.temperature)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("num_generations", self.num_generations, 1)
        whole("max_completion_length", self.max_completion_length, 1)
        positive("temperature", self.temperature)
        whole("refresh_every", self.refresh_every, 1)
        if self.use_vllm and self.use_transformers_continuous_batching:
            raise ValueError(
                "one generator draws samples, got use_vllm and "
                "use_transformers_continuous_batching. Set one of them."
            )
        if self.draws:
            self.check_vllm()
            self._check_room()
        else:
            self._refuse_of_samples()

    def _check_room(self) -> None:
        if self.reference == "cached":
            raise ValueError(
                "every sample is new, so there is nothing to keep, got reference: cached with "
                "online samples. Set reference: base."
            )
        if self.max_length is not None and self.max_completion_length >= self.max_length:
            raise ValueError(
                f"max_length holds a prompt and a sample, got {self.max_length} with "
                f"max_completion_length {self.max_completion_length}. Lower the latter."
            )

    def _refuse_of_samples(self) -> None:
        defaults = {one.name: one.default for one in fields(self) if one.default is not MISSING}
        for name in self._of_samples():
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name} is of samples, got {getattr(self, name)} where none are drawn. "
                    f"{self._how_to_draw()}, or leave it out."
                )

    def _of_samples(self) -> tuple[str, ...]:
        """Options that say nothing where there are no samples."""
        return OF_SAMPLES

    def _how_to_draw(self) -> str:
        """What turns sampling on."""
        return "Set online: true"
