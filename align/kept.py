"""The part of a trainer that keeps things: checkpoints, the result, what tells of the run."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peft import PeftModel

from .adapters import REFERENCE
from .card import Card, Paper, card
from .curves import write_curves
from .journal import Journal
from .record import Record, all_settings, censored, write_settings
from .reference_sync import ReferenceSync
from .saving import beside, checkpoint, newest, replace_text
from .sets import Sets
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
    if wanted is True:
        found = newest(run)
        if found is None:
            raise ValueError(
                f"{run} has no whole checkpoint to resume from. Leave out resume_from_checkpoint "
                "to start anew."
            )
        return found
    folder = Path(wanted)
    if not (folder / JOURNAL).is_file():
        raise ValueError(f"{folder} is no whole checkpoint of contralign. Name another.")
    return folder


class Kept:
    """Mixed into a transformers `Trainer`."""

    accelerator: Any
    args: Any
    base: str
    callback_handler: Any
    guard: FiniteGuard
    journal: Journal
    model: Any
    paper: Paper
    record: Record
    sets: Sets
    start: Any
    state: Any
    _get_output_dir: Any
    _sum: Any
    usage: str | None = None
    _checkpointing = False

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """Train; see transformers.

        Args:
            resume_from_checkpoint: A checkpoint's folder; True is the newest whole one.
            **options: Of transformers.

        Raises:
            OSError: A checkpoint couldn't be written; those before are whole.
            TrainingError: The start isn't as it should be, or a loss isn't finite.
            ValueError: There is no checkpoint to resume from.
        """
        folder = to_resume(Path(self.args.output_dir), resume_from_checkpoint)
        if self.args.should_save:
            Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
            write_settings(self.record, self.args, Path(self.args.output_dir))
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
                self._tell(folder)

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
                self._tell(folder)
                return
            replace_text(folder / JOURNAL, json.dumps(self.journal.state()))
            for sync in self._syncs():
                sync.save(folder)

    def _write(self, folder: str | None, state_dict: Any) -> None:
        """Write what was trained."""
        super()._save(folder, state_dict)  # type: ignore[misc]

    def _syncs(self) -> list[ReferenceSync]:
        callbacks = self.callback_handler.callbacks
        return [one for one in callbacks if isinstance(one, ReferenceSync)]

    def _tell(self, folder: Path) -> None:
        """Write what tells of the run: settings, curves, model card."""
        told = Card(
            name=Path(self.args.output_dir).resolve().name,
            base=self.base,
            adapter=isinstance(self.accelerator.unwrap_model(self.model), PeftModel),
            paper=self.paper,
            settings=all_settings(self.record, self.args),
            data=self.sets.lines(),
            history=self.state.log_history,
            command=self.record.command,
            notes=list(self.journal.watch.told.values()),
            dataset=self.record.settings.get("dataset_name"),
            use=self.usage,
        )
        write_settings(self.record, self.args, folder)
        write_curves(self.state.log_history, folder, told.name, told.notes)
        replace_text(folder / "README.md", censored(card(told), self.args))
