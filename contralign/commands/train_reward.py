"""The keys of `contralign train copg` that name what scores completions: TRL's, and ours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from contralign.align.rewards import Reward, make_reward
from contralign.align.rewards.make import KEYS


@dataclass
class RewardKeys:
    """Which reward scores the data's completions before training or, online, the samples.

    At most one of the first three is set; none where the data has scores.

    Attributes:
        reward_model_name_or_path: Hub id or folder of a sequence classifier with one logit.
        reward_funcs: Dotted path of a function with the signature of TRL's rewards.
        reward_column: Numbers in the data: NAME_chosen and NAME_rejected, the list NAMEs, or NAME.
        reward_revision: Branch, tag or commit of the reward model on the hub.
        reward_dtype: Of the reward model: auto, float32, bfloat16, float16. Default: auto.
        reward_device: Of the reward model, such as cuda:1.
        reward_batch_size: Completions that the reward model reads at once. Default: 8.
        reward_max_length: Tokens of prompt and completion. Default: what the model can read.
        reward_on_long: Longer ones are an error, the default, or lose their end: cut.
    """

    reward_model_name_or_path: str | None = None
    reward_funcs: list[str] | None = None
    reward_column: str | None = None
    reward_revision: str | None = None
    reward_dtype: str | None = None
    reward_device: str | None = None
    reward_batch_size: int | None = None
    reward_max_length: int | None = None
    reward_on_long: str | None = None

    def reward(self) -> Reward | None:
        """Make the reward, or None where no key is set.

        Raises:
            ValueError: Several are named, or options of a model without one.
        """
        given: dict[str, Any] = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        if all(value is None for value in given.values()):
            return None
        named = {name: given.pop(name) for name in KEYS}
        of_model = {name.removeprefix("reward_"): value for name, value in given.items()}
        return make_reward(**named, **of_model)
