"""MPO: score, split, DPO on easy pairs, then online RL on the prompts of difficult ones.

Gou & Nguyen 2024, arXiv 2403.19443. Stage 2 uses TRL's RLOO in place of the paper's PPO.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from peft import PeftConfig, PeftModel
from torch import nn
from transformers import BitsAndBytesConfig, TrainerCallback
from transformers.utils import logging

import contralign

from ..course import digest
from ..data import PAIRS, load, prepare
from ..data.checks import undecoded
from ..policy import (
    load_policy,
    load_processor,
    loading,
    silence_dropout,
    tokenizer_of,
)
from ..python_record import python_record
from ..record import Record, write_settings
from ..rewards import Reward, as_reward
from ..rewards.questions import given
from ..rewards.scores import check_lengths, questions_of, scores_of
from ..saving import newest
from ..start import check_models, check_options
from .checks import check_adapter, check_columns, check_second, check_whole
from .config import MPOConfig
from .files import DIFFICULT, EASY, FIRST, PICTURE, SECOND, check_place, write_split
from .prompts import check_reward, fitting_prompts, unfitting
from .split import Split, gaps, split
from .stage1 import first_record, run_first
from .stage2 import OnlineTrainer

logger = logging.get_logger(__name__)

KEPT = "The scores are kept: resume_from_checkpoint true goes on from them."


class MPOTrainer:
    """Runs all of MPO: `MPOTrainer("model", MPOConfig("out"), reward=f, train_dataset=rows)`.

    Files in the output folder are scores.jsonl, easy.jsonl, difficult.jsonl, split.json and
    split.png, the folders stage1 and stage2, and the resulting model.

    Args:
        model: Hub id or folder, or a model.
        args: The options.
        reward: A function or model: scores pairs, and the samples of stage 2. A `Reward`, or a
            function `f(prompts, completions, **columns) -> list[float]`, as in TRL.
        train_dataset: Pairs in TRL's formats. They're checked before anything is scored.
        eval_dataset: Held-out pairs for stage 1, or several sets by name.
        processing_class: Tokenizer or processor; default: the model's.
        peft_config: The adapter to train; default: all weights.
        quantization_config: How to load the model's weights (QLoRA).
        callbacks: As in transformers, of both stages.
        record: Where the run came from, for the model card.

    Attributes:
        online: The trainer of stage 2, once it has started.

    Raises:
        OSError: A model or file isn't there.
        ValueError: Data, reward, model and options don't go together.
    """

    online: OnlineTrainer | None = None

    def __init__(
        self,
        model: str | Path | nn.Module,
        args: MPOConfig,
        *,
        reward: Reward | Callable[..., Any] | None = None,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: PeftConfig | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        record: Record | None = None,
    ) -> None:
        check_reward(reward)
        check_whole(args)
        check_adapter(peft_config)
        first = args.first(Path(args.output_dir))
        check_options(first, eval_dataset is not None)
        check_models(first, peft_config, quantization_config, None)
        if isinstance(train_dataset, IterableDataset):
            raise ValueError(
                "MPO splits data by the gaps of all pairs, got a stream. Read it without streaming."
            )
        self.model: Any = str(model) if isinstance(model, Path) else model
        self.args = args
        self.reward: Reward = as_reward(reward)  # type: ignore[arg-type]
        self.processor = processing_class or load_processor(self.model, args)
        tokenizer_of(self.processor)
        check_columns(train_dataset.column_names)
        second = args.second(Path(args.output_dir))
        quantized = quantization_config is not None
        check_second(second, self.processor, self.model, peft_config, quantized)
        self._eval_dataset, self._adapter = eval_dataset, peft_config
        self._quantization, self._callbacks = quantization_config, callbacks
        self.record = record or python_record(
            self.model,
            "mpo",
            dtype=loading(args)["dtype"],
            adapter=peft_config,
            quantized=quantization_config,
            reward=self.reward,
            missing={
                "train_dataset": train_dataset,
                "eval_dataset": eval_dataset,
                "processing_class": processing_class,
                "callbacks": callbacks,
            },
        )
        with args.main_process_first(desc="checking the data"):
            self.rows, self.report = prepare(
                train_dataset,
                self.processor,
                args.max_length,
                args.on_problem,
                name="the training data",
                num_proc=args.dataset_num_proc,
                needs=PAIRS,
                tokens=False,
            )
        self.reward.check(given(train_dataset.column_names))

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.args.output_dir)

    def train(self, resume_from_checkpoint: str | bool | None = None) -> Any:
        """Score, split, and train both stages.

        Args:
            resume_from_checkpoint: True goes on where an earlier start with the same settings was
                interrupted: what is scored stays, a stage goes on from its newest checkpoint, and
                a finished one isn't repeated.

        Returns:
            What stage 2's `train` returns.

        Raises:
            TrainingError: A stage can't go on, or stage 2's reference isn't the stage-1 policy.
            ValueError: The output folder holds another run, a side of the split is empty, or a
                stage has other settings than before.
        """
        resume = bool(resume_from_checkpoint)
        check_place(self.folder, resume_from_checkpoint or None)
        # Before the first of them writes what the others would take for another run.
        PartialState().wait_for_everyone()
        made = self._split()
        if self.args.should_save:
            write_settings(self.record, self.args, self.folder)
        second = self.args.second(self.folder)
        prompts = fitting_prompts(
            load(str(self.folder / DIFFICULT)), self.processor, self.args, second
        )
        weights, policy = self._run_first(resume)
        if isinstance(self.model, str) or self._adapter is None:
            # It is read from its folder: no third model beside policy and reference.
            policy = None
            gc.collect()
        self.online = OnlineTrainer(
            self._policy(policy),
            second,
            judge=self.reward,
            prompts=prompts,
            whole=self.args,
            record=self.record,
            weights=weights,
            base=self._base(),
            told=[*self._told(made), *unfitting(len(made.difficult) - len(prompts))],
            processing_class=self.processor,
            callbacks=self._callbacks,
        )
        result = self.online.train(True if resume and newest(self.folder / SECOND) else None)
        self.model = self.online.accelerator.unwrap_model(self.online.model)
        return result

    def save_model(self) -> None:
        """Write the model, its card and curves into the output folder."""
        self._trained().finish(self.folder)

    def weights_of(self) -> str:
        """Say after which update of stage 2 the model has the weights that it has."""
        return self._trained().weights_of()

    def is_world_process_zero(self) -> bool:
        """Whether this is the first of all processes."""
        return bool(self.args.process_index == 0)

    def end(self) -> None:
        """Finish what transformers started; see its `Trainer`."""
        self._trained().end()

    def _trained(self) -> OnlineTrainer:
        if self.online is None:
            raise ValueError("stage 2 hasn't started. Call train first.")
        return self.online

    # Scores and split

    def _split(self) -> Split:
        """Score what isn't scored yet, split, and write both down."""
        questions = questions_of(list(undecoded(self.rows)))
        check_lengths(questions, self.reward)
        settings = {
            "contralign": contralign.__version__,
            "reward": dict(self.reward.fingerprint()),
            "data": digest(self.rows),
        }
        with self.args.main_process_first(desc="scoring and splitting"):
            scores = scores_of(questions, self.reward, self.folder, settings)
            try:
                made = split(gaps(scores), self.args.rule)
            except ValueError as error:
                raise ValueError(f"{error} {KEPT}") from error
            if self.args.should_save:
                asked = {"negative_gaps": self.args.negative_gaps}
                write_split(self.folder, made, questions, scores, asked)
        if self.args.process_index == 0:
            for line in self._told(made):
                logger.warning(line)
        return made

    def _told(self, made: Split) -> Sequence[str]:
        found = made.summary()
        return [
            f"training: {found['pairs']} pairs, {self.report.dropped} others left out as unusable",
            f"split at gamma {made.gamma:.4g}: {found['easy']} easy pairs for DPO, prompts of "
            f"{found['difficult']} difficult ones for online RL, {found['dropped']} dropped, "
            f"{found['flipped']} flipped; the reward contradicts {found['negative_share']:.1%} of "
            f"all pairs, and {found['ties']} are ties ({PICTURE})",
        ]

    # Policies

    def _run_first(self, resume: bool) -> tuple[str, Any]:
        easy = self.folder / EASY
        return run_first(
            self.model,
            self.args.first(self.folder),
            load(str(easy)),
            first_record(self.record, easy, self._eval_dataset is not None),
            resume,
            eval_dataset=self._eval_dataset,
            processing_class=self.processor,
            peft_config=self._adapter,
            quantization_config=self._quantization,
            callbacks=self._callbacks,
        )

    def _policy(self, trained: Any) -> Any:
        """The policy of stage 1, from its folder."""
        folder = str(self.folder / FIRST)
        if isinstance(self.model, str) or self._adapter is None:
            return load_policy(folder, self.args, None, self._quantization)
        base = self.model if trained is None else trained.unload()
        policy = PeftModel.from_pretrained(base, folder, is_trainable=True)
        if self.args.disable_dropout:
            silence_dropout(policy)
        return policy

    def _base(self) -> str:
        told: Mapping[str, Any] = self.record.settings
        return str(told.get("model_name_or_path") or "a model made in memory")
