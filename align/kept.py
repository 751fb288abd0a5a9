"""The part of a trainer that keeps things: checkpoints, the result, what tells of the run."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, EarlyStoppingCallback

from contralign.files import replace_text

from .adapters import REFERENCE
from .card import Card, Paper, card
from .course import ANOTHER, HELD_OUT, course, digest, refuse_another
from .curves import write_curves
from .journal import Journal
from .record import Record, all_settings, censored, write_settings
from .reference_sync import ReferenceSync
from .saving import beside, checkpoint, newest, refuse_used
from .start import check_schedule
from .stop import FiniteGuard

JOURNAL = "journal.json"


def to_resume(run: Path, wanted: str | bool | None) -> Path | None:
    """Find the checkpoint to resume from.

    Args:
        run: The folder of the run.
        wanted: A checkpoint's folder; True is the newest whole one of the run.

    Raises:
        ValueError: There is none.
    """
    if not wanted:
        return None
    folder = newest(run) if wanted is True else Path(wanted)
    if folder is None:
        raise ValueError(
            f"{run} has no whole checkpoint to resume from. Leave out resume_from_checkpoint "
            "to start anew."
        )
    kept_course(folder)
    return folder


def kept_course(checkpoint: Path) -> dict[str, Any]:
    """What decided the course of the run that a checkpoint is of.

    Raises:
        ValueError: It's none of ours, or broken.
    """
    try:
        kept = json.loads((checkpoint / JOURNAL).read_text(encoding="utf-8"))
        return dict(kept["course"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{checkpoint} is no whole checkpoint of contralign. Name another."
        ) from error


class Kept:
    """Mixed into a transformers `Trainer`."""

    anew = ANOTHER
    accelerator: Any
    args: Any
    base: str
    callback_handler: Any
    control: Any
    eval_dataset: Any
    guard: FiniteGuard
    journal: Journal
    model: Any
    optimizer: Any
    paper: Paper
    record: Record
    sets: Any
    start: Any
    state: Any
    train_dataset: Any
    weights: str | None = None
    _get_output_dir: Any
    _sum: Any
    _warn: Any
    usage: str | None = None
    _checkpointing = False
    _told = -1

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """Train; see transformers.

        Args:
            resume_from_checkpoint: A checkpoint's folder; True is the newest whole one.
            **options: Of transformers.

        Raises:
            OSError: A checkpoint couldn't be written; those before are whole.
            TrainingError: The start isn't as it should be, or a loss isn't finite.
            ValueError: There is no checkpoint to resume from, or it's of a run with other settings;
                or, not resuming, the output folder holds a run or a model.
        """
        folder = to_resume(Path(self.args.output_dir), resume_from_checkpoint)
        if folder is None:
            refuse_used(Path(self.args.output_dir))
        else:
            refuse_another(folder, kept_course(folder), self._course(), self.anew)
        if self.args.should_save:
            Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
            self._write_settings(Path(self.args.output_dir))
        if folder is not None:
            self.journal.load(json.loads((folder / JOURNAL).read_text(encoding="utf-8")))
            for sync in self._syncs():
                sync.load(folder)
        self.journal.restart_clock()
        resumed = None if folder is None else str(folder)
        result = super().train(resumed, **options)  # type: ignore[misc]
        self.guard.check()
        self.create_model_card()
        return result

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write README.md and the curves into the output folder."""
        if self.args.should_save:
            with beside(Path(self.args.output_dir)) as folder:
                self._tell(folder, self.args.output_dir)
            self._told = len(self.state.log_history)

    def weights_of(self) -> str:
        """Say after which update the model has the weights that it has."""
        state = self.state
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        if best is None:
            return f"after update {state.global_step} of {state.max_steps}"
        step, metric = Path(best).name.rpartition("-")[2], self.args.metric_for_best_model
        return f"after update {step} of {state.max_steps}, the best evaluated by {metric}"

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[misc]
        if norm is not None and self.accelerator.scaler is None:
            self.guard.watch_gradient(norm)
        return norm

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.guard.check()
        self.journal.count(self._sum)
        run = Path(self._get_output_dir(trial=trial))
        folder = run / f"checkpoint-{self.state.global_step}"
        whole = checkpoint(folder) if self.args.should_save else nullcontext()
        self._checkpointing = True
        try:
            with self.journal.pause(), whole:
                self.accelerator.wait_for_everyone()
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self._checkpointing = False

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        # What is written next makes the checkpoint count as whole.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            self._write(output_dir, state_dict)
            return
        with beside(Path(output_dir or self.args.output_dir)) as folder:
            self._write(str(folder), state_dict)
            # PEFT's card, and the frozen copy that the policy was compared with.
            (folder / "README.md").unlink(missing_ok=True)
            shutil.rmtree(folder / REFERENCE, ignore_errors=True)
            if not self._checkpointing:
                if not self._is_told(output_dir):
                    self._tell(folder, output_dir or self.args.output_dir)
                return
            state = {**self.journal.state(), "course": self._course()}
            replace_text(folder / JOURNAL, json.dumps(state))
            for sync in self._syncs():
                sync.save(folder)

    def _is_told(self, folder: str | None) -> bool:
        """Whether the output folder has the card of all that was logged."""
        own = folder is None or Path(folder) == Path(self.args.output_dir)
        return own and self._told == len(self.state.log_history)

    def _course(self) -> dict[str, Any]:
        args = self.args
        share = self._share(args.per_device_train_batch_size) * args.gradient_accumulation_steps
        named = {name: value for name, value in self._settings().items() if "dataset" in name}
        held_out = dict(self._digests)
        # What it said of the data's completions is in the data.
        samples = getattr(args, "online", False) and self.sets.reward is not None
        return {
            "settings": course(self._settings()),
            "weights": self.weights,
            "examples of an update": share * args.world_size,
            "training data": held_out.pop("training") or named,
            HELD_OUT: {name: found for name, found in held_out.items() if found},
            **({"reward": dict(self.sets.reward.fingerprint())} if samples else {}),
        }

    def _share(self, size: int) -> int:
        """Examples that a process gets of a full round."""
        split = self.args.accelerator_config.split_batches
        return size // self.accelerator.num_processes if split else size

    @cached_property
    def _digests(self) -> dict[str, str | None]:
        """What names the rows of each data set."""
        rows = self.eval_dataset
        several = rows.items() if isinstance(rows, dict) else ()
        held_out = {f"evaluation {name}": one for name, one in several} or {"evaluation": rows}
        return {
            name: digest(one) for name, one in {"training": self.train_dataset, **held_out}.items()
        }

    def _settings(self) -> dict[str, Any]:
        return all_settings(self.record, self.args)

    def _write_settings(self, folder: Path) -> None:
        write_settings(self.record, self.args, folder)

    def _init_training_state(self, max_steps: int, *others: Any) -> Any:
        """What is logged, evaluated and saved how often is what is asked for now."""
        check_schedule(self.args, max_steps)
        place = super()._init_training_state(max_steps, *others)  # type: ignore[misc]
        if self.args.learning_rate == 0 and self.optimizer is None:
            self._warn("learning_rate is 0: nothing will be trained.")
        self.state.compute_steps(self.args, max_steps)
        if self._is_over():
            early = self.state.global_step < max_steps
            self._warn(
                f"Nothing is left to train: the checkpoint is after update "
                f"{self.state.global_step} of {max_steps}"
                + (", where it stopped early." if early else ".")
            )
        return place

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        if self._is_over():
            # Transformers would make one more update before it looks.
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **options)  # type: ignore[misc]

    def _is_over(self) -> bool:
        state = self.state
        stopped = any(
            one.early_stopping_patience_counter >= max(one.early_stopping_patience, 1)
            for one in self.callback_handler.callbacks
            if isinstance(one, EarlyStoppingCallback)
        )
        return bool(state.global_step >= state.max_steps or (state.global_step > 0 and stopped))

    def _write(self, folder: str | None, state_dict: Any) -> None:
        """Write what was trained."""
        super()._save(folder, state_dict)  # type: ignore[misc]

    def _syncs(self) -> list[Any]:
        """What a checkpoint keeps too: each has `save(folder)` and `load(folder)`."""
        callbacks = self.callback_handler.callbacks
        return [one for one in callbacks if isinstance(one, ReferenceSync)]

    def _tell(self, folder: Path, place: str) -> None:
        """Write settings, curves and model card, which says at what place the model lies."""
        in_memory = {"training": "train_dataset", "evaluation": "eval_dataset"}
        made = {
            name: found
            for name, found in self._digests.items()
            if found and in_memory[name.partition(" ")[0]] in self.record.missing
        }
        told = Card(
            name=Path(self.args.output_dir).resolve().name,
            folder=place,
            base=self.base,
            adapter=isinstance(self.accelerator.unwrap_model(self.model), PeftModel),
            sees=type(self.model.config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
            paper=self.paper,
            settings=self._settings(),
            data=self.sets.lines(made),
            history=self.state.log_history,
            command=self.record.command,
            notes=list(self.journal.watch.told.values()),
            weights=self.weights_of(),
            dataset=self.record.settings.get("dataset_name"),
            use=self.usage and self.usage.replace("FOLDER", self.args.output_dir),
        )
        self._write_settings(folder)
        write_curves(self.state.log_history, folder, told.name, told.notes)
        replace_text(folder / "README.md", censored(card(told), self.args))
