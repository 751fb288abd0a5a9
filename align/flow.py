"""When training logs a line, beside every so many updates."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class Lines(TrainerCallback):
    """Logs a line before each evaluation and after the last update, unless none is wanted."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        control.should_log |= args.logging_strategy != "no" and (last or control.should_evaluate)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log |= args.logging_strategy != "no" and control.should_evaluate
