"""Steps of online training by TRL's RLOO trainer and by our CoPG, on one model in one process."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from preferences import SPECIAL, spelled, words_tokenizer
from training_contest import LAYERS, gpu_path, move

from contralign.align.copg_config import CoPGConfig
from contralign.align.copg_trainer import CoPGTrainer
from contralign.align.sampling import Sampling

APART = 1e-4  # nats a token, in float32
BESIDE, CONTINUOUS = "adapter beside", "continuous batching"
Part = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Work:
    """One step.

    Attributes:
        prompts: Of the step.
        k: Completions a prompt.
        prompt: Tokens of each prompt.
        answer: Tokens of each completion.
    """

    prompts: int
    k: int
    prompt: int
    answer: int

    def rows(self, vocabulary: int) -> list[dict[str, Any]]:
        """Draw the prompts: the same for the same work."""
        source, words = random.Random(0), vocabulary - len(SPECIAL)
        drawn = [[source.randrange(words) for _ in range(self.prompt)] for _ in range(self.prompts)]
        return [{"prompt": spelled(ids, words)} for ids in drawn]


@dataclass
class Watch:
    """Time spent in the parts of a step; what an inner one takes isn't the outer one's."""

    device: torch.device
    spent: Counter[str] = field(default_factory=Counter)
    _inner: list[float] = field(default_factory=list)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begun = self._now()
        self._inner.append(0.0)
        try:
            yield
        finally:
            taken = self._now() - begun
            self.spent[part] += taken - self._inner.pop()
            if self._inner:
                self._inner[-1] += taken

    def _now(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def of(part: str, watch: Part, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, on the watch."""

    @wraps(call)
    def timed(*given: Any, **named: Any) -> Any:
        with watch(part):
            return call(*given, **named)

    return timed


@dataclass(frozen=True)
class Trainers:
    """Both, on one model, with an optimizer that both use."""

    work: Work
    model: Any
    ours: Any
    theirs: Any
    optimizer: torch.optim.Optimizer

    @property
    def rows(self) -> Any:
        """The prompts as ours are prepared."""
        return [self.ours.train_dataset[i] for i in range(self.work.prompts)]

    @property
    def repeated(self) -> list[dict[str, Any]]:
        """The prompts as TRL's sampler gives them."""
        texts = self.theirs.train_dataset["prompt"]
        return [{"prompt": text} for text in texts for _ in range(self.work.k)]


def letters(completions: Sequence[str], **_: Any) -> list[float]:
    """A reward that costs nothing."""
    return [float(len(said) % 7) for said in completions]


def trainers(model: Any, work: Work, folder: Path) -> Trainers:
    """Put a model into both; TRL attaches the adapter."""
    vocabulary = model.config.vocab_size
    rows = Dataset.from_list(work.rows(vocabulary))
    shared = {
        "output_dir": str(folder / "run"),
        "num_generations": work.k,
        "max_completion_length": work.answer,
        "beta": 0.05,
        "bf16": model.dtype == torch.bfloat16,
        "use_cpu": model.device.type == "cpu",
        "gradient_checkpointing": False,
        "activation_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    ends = {"generation_kwargs": {"min_new_tokens": work.answer}, "steps_per_generation": 1}
    theirs: Any = trl.RLOOTrainer(
        model,
        reward_funcs=letters,
        args=trl.RLOOConfig(
            **shared, **ends, per_device_train_batch_size=work.prompts * work.k, temperature=1.0
        ),
        train_dataset=rows,
        processing_class=words_tokenizer(vocabulary),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=LAYERS, task_type="CAUSAL_LM"),
    )
    move(theirs.model)
    config = CoPGConfig(
        **shared, online=True, per_device_train_batch_size=work.prompts, reference="base"
    )
    ours: Any = CoPGTrainer(
        theirs.model,
        config,
        train_dataset=rows,
        processing_class=words_tokenizer(vocabulary),
        reward=letters,
    )
    # Beyond the vocabulary: nothing ends a completion before its length does.
    endless = replace(ours._sampling(), stops=(vocabulary,))
    ours._sampling = lambda: endless
    for trainer in (ours, theirs):
        trainer.current_gradient_accumulation_steps = 1
    # `train()` would wrap the model so that TRL's forward autocasts; ours does by itself.
    theirs.compute_loss_context_manager = theirs.accelerator.autocast
    trained = [p for p in theirs.model.parameters() if p.requires_grad]
    return Trainers(work, theirs.model, ours, theirs, torch.optim.AdamW(trained, lr=1e-6))


def updated(both: Trainers, trainer: Any, inputs: Any) -> None:
    with gpu_path(both.model.device):
        trainer.training_step(both.model, inputs, None)
    both.optimizer.step()
    both.optimizer.zero_grad(set_to_none=True)


def their_step(both: Trainers, watch: Part) -> None:
    """TRL's step."""
    theirs = both.theirs
    whole, generate = theirs._generate_and_score_completions, theirs._generate
    with (
        mock.patch.object(theirs, "_generate", of("generation", watch, generate)),
        mock.patch.object(theirs, "_generate_and_score_completions", of("scoring", watch, whole)),
        watch("update"),
    ):
        updated(both, theirs, both.repeated)


def our_step(both: Trainers, watch: Part, how: str = "generate") -> None:
    """Our step; see `drawing`."""
    ours = both.ours
    sample, reference = ours._sample, ours.reference
    with (
        drawing(ours, how),
        mock.patch.object(Sampling, "__call__", of("generation", watch, Sampling.__call__)),
        mock.patch.object(ours, "_sample", of("scoring", watch, sample)),
        mock.patch.object(ours, "reference", of("scoring", watch, reference.__call__)),
        watch("update"),
    ):
        updated(both, ours, ours.data_collator(both.rows))


@contextmanager
def drawing(ours: Any, how: str) -> Iterator[None]:
    """Draw from scratch weights with generate or continuous batching, or beside the adapter."""
    unmerged = mock.patch("contralign.align.sampling.merged", return_value=nullcontext())
    with unmerged if how == BESIDE else nullcontext():
        ours.args.use_transformers_continuous_batching = how == CONTINUOUS
        try:
            yield
        finally:
            ours.args.use_transformers_continuous_batching = False


def drawn(both: Trainers, how: str = "generate") -> Any:
    ours = both.ours
    batch = ours.data_collator(both.rows)["batch"]
    with drawing(ours, how):
        return ours._sampling()(both.model, batch, "the gate", ours._draw())


def check(both: Trainers) -> float:
    """Refuse to time trainers that don't do the same work.

    Returns:
        How far apart their log-probs of the same samples are, in nats a token.

    Raises:
        SystemExit: Too far, or somebody draws other tokens or ends early.
    """
    model, work = both.model, both.work
    batch = drawn(both)
    for how in (BESIDE, CONTINUOUS):
        if drawn(both, how).completions != batch.completions:
            raise SystemExit(f"{how} draws other tokens than generate: no times.")
    prompts, said, *_ = both.theirs._generate([row["prompt"] for row in both.repeated])
    if {len(ids) for ids in (*said, *batch.flat)} != {work.answer}:
        raise SystemExit(f"a completion hasn't {work.answer} tokens: no times.")
    if prompts[:: work.k] != batch.prompts:
        raise SystemExit("both read other prompts: no times.")
    ids = [
        [*p, *c]
        for p, group in zip(prompts[:: work.k], batch.completions, strict=True)
        for c in group
    ]
    rows = torch.tensor(ids, device=model.device)
    found = 0.0
    for view in (nullcontext, model.disable_adapter):
        with torch.no_grad(), view(), gpu_path(model.device):
            mine = both.ours.engine(batch).logps.flatten(0, 1)
            score = both.theirs._get_per_token_logps_and_entropies
            other, *_ = score(model, rows, torch.ones_like(rows), work.answer)
        found = max(found, float((mine - other).abs().max()))
    if not found <= APART:
        raise SystemExit(f"log-probs of the same samples are {found:.1e} nats apart: no times.")
    return found
