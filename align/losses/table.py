"""Every loss by its name, which is TRL's `loss_type` where TRL has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .dpo import DPO
from .hinge import Hinge
from .ipo import IPO
from .loss import Loss

LOSSES: dict[str, Callable[..., Loss]] = {
    "sigmoid": DPO,
    "ipo": partial(IPO, average=True),
    "ipo_sum": partial(IPO, average=False),
    "hinge": Hinge,
}
