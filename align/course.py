"""What decides a run's course: a resumed run must be what it would have been unbroken."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from datasets import Dataset

from contralign.files import differences

from .data.formats import IMAGES

# Keys that may change when a run goes on: where things are kept and told, how often, how fast.
FREE = (
    *("output_dir", "logging_", "log_", "save_", "eval_", "per_device_eval_", "report_to"),
    *("run_name", "project", "trackio_", "disable_tqdm", "push_to_hub", "hub_", "load_best_model"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent"),
    *("dataloader_prefetch", "dataset_num_proc"),
    *("gradient_checkpointing", "log_prob_path", "accelerator_config", "self_check", "use_cpu"),
    *("reward_batch_size", "reward_device", "use_transformers_continuous"),
    *("vllm_mode", "vllm_server", "vllm_group", "vllm_gpu", "vllm_tensor", "vllm_enable"),
    *("vllm_model", "vllm_max"),
    *("ddp_", "debug", "skip_memory_metrics", "restore_callback_states", "enable_jit_checkpoint"),
)
# Compared by what they come to: the rows, and the examples of an update.
CONTENT = ("dataset", "test_split_size", "streaming")
SHARES = ("per_device_train_batch_size", "gradient_accumulation_steps")
LENGTH = ("max_steps", "num_train_epochs")
HELD_OUT = "held-out data"
ANOTHER = "start another run, in another output_dir, from the model that this one made"
# The learning rate of an update doesn't depend on how many there are.
STEADY = ("constant", "constant_with_warmup")


def course(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the settings that decide what each update does."""
    steady = settings.get("lr_scheduler_type") in STEADY and not 0 < settings["warmup_steps"] < 1
    free = (*FREE, *CONTENT, *SHARES, *(LENGTH if steady else ()))
    return {
        name: _meant(name, value)
        for name, value in settings.items()
        if value is not None and not name.startswith(free)
    }


def _meant(name: str, value: Any) -> Any:
    """One value for all that come to the same."""
    if name == "reference" and value == "cached":
        return "base"
    if name in ("model_name_or_path", "reference") and Path(value).is_dir():
        return str(Path(value).resolve())
    if name == "lora_target_modules":
        return sorted([value] if isinstance(value, str) else value)
    return value


def digest(rows: Any) -> str | None:
    """Name rows by their content, pictures aside; None for a stream."""
    if not isinstance(rows, Dataset):
        return None
    found = sha256()
    names = [name for name in rows.column_names if name not in IMAGES]
    for table in rows.select_columns(names).with_format("arrow").iter(1000):
        for batch in table.combine_chunks().to_batches():
            found.update(batch.serialize())
    return found.hexdigest()[:16]


def refuse_another(
    folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], way_out: str = ANOTHER
) -> None:
    """Refuse to go on with what would be another run.

    Args:
        folder: The checkpoint.
        then: What decided its run's course.
        now: What would decide it.
        way_out: What else than to resume.

    Raises:
        ValueError: Names what differs, and the way out.
    """
    before, after = dict(then), dict(now)
    if not (before.get(HELD_OUT) and after.get(HELD_OUT)):
        # They may come or go, but one curve is of the same rows.
        before[HELD_OUT] = after[HELD_OUT] = None
    if changed := list(differences(before, after)):
        raise ValueError(
            f"{folder} is of a run with other settings: {'; '.join(changed)}. Resume with those it "
            f"had; or {way_out}."
        )
