"""Stage 2: online RL on the prompts of difficult pairs, held to the policy of stage 1.

TRL's `RLOOTrainer`: Ahmadian et al. 2024, arXiv 2402.14740, in place of the paper's PPO, which TRL
no longer has. Its baseline leaves one sample out, and the KL to the reference is in the reward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import trl
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.utils import RepeatSampler

from ..card import Paper
from ..continuous import check_continuous
from ..course import course, digest
from ..flow import Lines
from ..journal import Journal
from ..kept import Kept
from ..measured import Measured
from ..record import Record, all_settings, settings, write_settings
from ..rewards import Reward
from ..stop import FiniteGuard, TrainingError
from ..vllm import MergedGeneration, check_weights
from .config import MPOConfig, OnlineConfig
from .files import SECOND
from .prompts import Judge, Prompts

PAPER = Paper(
    method="MPO",
    title="Mixed Preference Optimization: Reinforcement Learning with Data Selection and Better "
    "Reference Model",
    authors="Gou & Nguyen",
    year=2024,
    arxiv="2403.19443",
)
# Nats between policy and reference before the first update; both compute the same numbers.
SAME, SAME_IN_HALF = 1e-5, 1e-3
FROZEN = "ref"  # TRL's name of the copy of the adapter


class Order(RepeatSampler):
    """TRL's order of prompts, which also a resumed run finds: each epoch has a seed of its own.

    Args:
        epoch: Tells which one it is: through accelerate's wrappers `set_epoch` may not reach it.
        **given: Of TRL's sampler.
    """

    def __init__(self, epoch: Callable[[], int], **given: Any) -> None:
        super().__init__(**given)
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed + self._epoch())
        return super().__iter__()


class OnlineTrainer(Kept, trl.RLOOTrainer):
    """Trains a policy on its own samples, from the policy of stage 1.

    Args:
        policy: That of stage 1, which is the reference too: as an adapter on its base, or loaded
            from the folder of stage 1, from where TRL loads the reference once more.
        args: The options.
        judge: Scores samples.
        prompts: Rows of the data.
        whole: The options of the whole run, for card and settings.
        record: Where the whole run came from.
        weights: What names the weights of stage 1.
        base: Hub id or folder of what the whole run started from.
        told: Lines about the data, for the card.
        processing_class: Tokenizer or processor.
        callbacks: As in transformers.
    """

    paper = PAPER
    anew = f"delete {SECOND} to train it anew"
    _epoch = 0
    _sum, _warn = Measured._sum, Measured._warn

    def __init__(
        self,
        policy: Any,
        args: OnlineConfig,
        *,
        judge: Reward,
        prompts: Dataset,
        whole: MPOConfig,
        record: Record,
        weights: str,
        base: str,
        told: Sequence[str],
        processing_class: Any,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.sets = Prompts(prompts, judge, told)
        self.whole, self.record, self.weights, self.base = whole, record, weights, base
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        self.journal = Journal(exact_drift=False)
        self.guard = FiniteGuard(Path(args.output_dir), tokenizer.decode)
        self._scored: list[Tensor] | None = None
        if args.use_vllm:
            check_weights(policy)
        if args.use_transformers_continuous_batching:
            check_continuous(policy)
        super().__init__(
            policy,
            Judge(judge, self.sets, self._moment),
            args,
            train_dataset=self.sets.dataset(),
            processing_class=processing_class,
            callbacks=[Lines(), *(callbacks or [])],
        )
        _same_precision(policy)
        if args.use_vllm:
            # TRL would merge into the policy's own weights, which are the reference's too.
            MergedGeneration.take(self.vllm_generation, policy)

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """Train; see transformers."""
        with warnings.catch_warnings():
            # TRL calls transformers by former names at each update.
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
            return super().train(resume_from_checkpoint, **options)

    def finish(self, folder: Path) -> None:
        """Write the model, its card and curves, as the result of the whole run."""
        self.args.output_dir = str(folder)
        self.save_model()

    def weights_of(self) -> str:
        return f"{super().weights_of()} of stage 2"

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: that of the whole run comes with its model."""

    def _moment(self) -> str:
        return f"stage 2, update {self.state.global_step}"

    # The reference

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        first = self.state.global_step == 0 and self._step == 0
        self._scored = [] if first else None
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._scored is not None:
            policy, reference = self._scored[:2]
            self._scored = None
            check_same(policy, reference, batch["completion_mask"], self._is_half())
        return batch

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **options)
        if self._scored is not None:
            self._scored.append(found[0].detach())
        return found

    def _is_half(self) -> bool:
        half = self.args.bf16 or self.args.fp16
        return bool(half or self.model.dtype.itemsize < 4)

    # Loss and log

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        """Compute the loss of a batch as TRL does, and see that it's finite."""
        loss = super().compute_loss(*args, **options)
        if not bool(loss.detach().isfinite()):
            raise TrainingError(
                f"the loss is no longer finite in {self._moment()}. Lower learning_rate of stage2, "
                "or set max_grad_norm; then resume."
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line: TRL's numbers, and the mean reward under the name that curves know."""
        measured = self._metrics["train"]
        measured["scores/mean"] = list(measured["reward"])
        if not measured["reward"]:
            del measured["scores/mean"], measured["reward"]
        super().log(logs, start_time)

    # Resuming

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        theirs = super()._get_train_sampler(dataset)
        names = ("data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle")
        given = {name: getattr(theirs, name) for name in (*names, "seed")}
        return Order(lambda: self._epoch, **given)

    def _run_epoch(self, *args: Any, epoch: int, **options: Any) -> Any:
        self._epoch = epoch
        return super()._run_epoch(*args, epoch=epoch, **options)

    def _init_training_state(self, *args: Any) -> Any:
        """TRL counts batches from 0 after a resume, so that samples would meet other prompts."""
        place = super()._init_training_state(*args)
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        return place

    def _write(self, folder: str | None, state_dict: Any) -> None:
        """Write the policy without the frozen copy of its adapter."""
        super()._write(folder, state_dict)
        frozen = Path(folder or self.args.output_dir) / FROZEN
        if frozen.is_dir():
            for file in frozen.iterdir():
                file.unlink()
            frozen.rmdir()

    def _course(self) -> dict[str, Any]:
        return {**super()._course(), "settings": course(settings(self.args))}

    @property
    def _digests(self) -> dict[str, str | None]:
        return {"training": digest(self.sets.rows)}

    def _settings(self) -> dict[str, Any]:
        return all_settings(self.record, self.whole)

    def _write_settings(self, folder: Path) -> None:
        write_settings(self.record, self.whole, folder)


def check_same(policy: Tensor, reference: Tensor, mask: Tensor, half: bool) -> None:
    """See that the KL of the first samples is 0, token by token, before the first update.

    Args:
        policy: Log-probs of the samples' tokens `[samples, tokens]`, in nats.
        reference: The same.
        mask: 1 where there is a token.
        half: Whether they are computed in half precision.

    Raises:
        TrainingError: The reference isn't the policy that stage 2 starts from.
    """
    apart = ((policy.float() - reference.float()) * mask).abs().max().item()
    if not apart <= (SAME_IN_HALF if half else SAME):
        raise TrainingError(
            f"stage 2 starts with KL 0 to the stage-1 policy, but before the first update a "
            f"token's log-prob differs from the reference's by {apart:.3g} nats: the reference "
            "isn't the stage-1 policy. Nothing was trained."
        )


def _same_precision(policy: Any) -> None:
    """Round the frozen adapter as TRL has rounded the trained one, on quantized weights."""
    frozen = dict(policy.named_parameters())
    for name, trained in policy.named_parameters():
        copy = frozen.get(name.replace(".default.", f".{FROZEN}."))
        if copy is not None and copy is not trained:
            copy.data = trained.data.clone()
