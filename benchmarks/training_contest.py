"""Steps of DPO by TRL's trainer and by ours, on one model in one process.

Both trainers hold the same `PeftModel`: the same weights, the same LoRA, gradients in the same
place. A contestant's step is what its trainer does with rows: collate, policy and reference
forward, loss, metrics, backward.

On a CPU, TRL takes the way of its GPU path (`trl.trainer.utils._use_triton` is patched): without
that it sends every position through the head, prompts and padding too, and a comparison would be
void.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
import trl
from datasets import Dataset
from gradients import Contestant, naive_logps
from peft import LoraConfig
from preferences import Row, picture
from torch import Tensor
from transformers import ProcessorMixin

from contralign.align.config import DPOConfig
from contralign.align.dpo_trainer import DPOTrainer
from contralign.align.policy import autocast_dtype
from contralign.align.reference_cache import CHECKED, CachedReference
from contralign.align.references import make_reference

BETA = 0.1
# Far from its start, where the adapter says nothing and policy and reference are the same.
SPREAD = 0.02
# LoRA on all linear layers of the language model, none on a vision tower.
LAYERS = r"^(?!.*vision).*\.(q|k|v|o|gate|up|down)_proj$"

DEFAULTS, BEST, PRECOMPUTED = "TRL, defaults", "TRL, best settings", "TRL, best, precomputed"
OUR_DEFAULTS, OURS, CACHED = "ours, defaults", "ours, no checkpointing", "ours, cached reference"
Batches = Sequence[list[Row]]


@dataclass(frozen=True)
class Trainers:
    """Both, on one model.

    Attributes:
        model: With its adapter.
        ours: Our trainer.
        theirs: TRL's.
        cached: The cached reference that ours can compare with.
    """

    model: Any
    ours: Any
    theirs: Any
    cached: CachedReference


def trainers(model: Any, processor: Any, folder: Path) -> Trainers:
    """Put a model into both trainers; TRL's attaches the adapter.

    Args:
        model: Without an adapter.
        processor: Its tokenizer or processor.
        folder: For what trainers and the cache write.
    """
    shared = {
        "output_dir": str(folder / "run"),
        "max_length": None,
        "beta": BETA,
        "bf16": model.dtype == torch.bfloat16,
        "use_cpu": model.device.type == "cpu",
        "activation_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    row: Row = {"prompt": "w0", "chosen": " w1", "rejected": " w2"}
    images = {"images": [picture(0)]} if isinstance(processor, ProcessorMixin) else {}
    theirs: Any = trl.DPOTrainer(
        model,
        args=trl.DPOConfig(**shared),
        train_dataset=Dataset.from_list([{**row, **images}]),
        processing_class=processor,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=LAYERS, task_type="CAUSAL_LM"),
    )
    move(theirs.model)
    config = DPOConfig(**shared, reference="base")
    ours = DPOTrainer(theirs.model, config, processing_class=processor)
    for trainer in (ours, theirs):
        trainer.current_gradient_accumulation_steps = 1
    # `train()` would wrap the model so that TRL's forward autocasts; ours does by itself.
    theirs.compute_loss_context_manager = theirs.accelerator.autocast
    autocast = autocast_dtype(config)
    cached: Any = make_reference("cached", ours.engine, autocast=autocast, cache=folder / "cache")
    return Trainers(theirs.model, ours, theirs, cached)


def contestants(both: Trainers, batches: Batches) -> dict[str, Contestant]:
    """All ways to do a step on micro-batches, whose losses and gradients add up.

    Precomputed and cached references are filled here, before anything is timed: each was computed
    once, which a single epoch doesn't earn back. TRL can't precompute them where there are images.
    """
    theirs, ours, model = both.theirs, both.ours, both.model
    step, live = partial(_step, ours, model, batches), partial(_step, theirs, model, batches)
    found = {DEFAULTS: Contestant(live, partial(_checkpointed, model, embeddings=True))}
    found[BEST] = Contestant(live)
    if not isinstance(theirs.processing_class, ProcessorMixin):
        known = [_precomputed(both, rows) for rows in batches]
        found[PRECOMPUTED] = Contestant(
            partial(_step, theirs, model, known),
            partial(mock.patch.object, theirs, "precompute_ref_logps", True),
        )
    _fill(both, batches)
    found[OUR_DEFAULTS] = Contestant(step, partial(_checkpointed, model))
    found[OURS] = Contestant(step)
    found[CACHED] = Contestant(step, partial(mock.patch.object, ours, "reference", both.cached))
    return found


def naive_step(both: Trainers, batches: Batches) -> Tensor:
    """The reference of the gate: each sequence alone through all of the model."""
    both.model.train()
    losses = []
    for rows in batches:
        batch = both.ours.data_collator(rows)["batch"]
        policy = naive_logps(both.model, batch)
        with torch.no_grad(), both.model.disable_adapter():
            reference = naive_logps(both.model, batch)
        ratios = (policy - reference).sum(-1)
        loss = -F.logsigmoid(BETA * (ratios[:, 0] - ratios[:, 1])).mean()
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


@contextmanager
def gpu_path(device: torch.device) -> Iterator[None]:
    """Let TRL score only the answers' positions, as it does on a GPU."""
    if device.type == "cuda":
        yield
        return
    with mock.patch("trl.trainer.utils._use_triton", return_value=True):
        yield


def move(model: Any) -> None:
    """Let the adapter say something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(SPREAD * torch.randn(parameter.shape, generator=generator))


def _step(trainer: Any, model: Any, batches: Batches) -> Tensor:
    with gpu_path(model.device):
        losses = [trainer.training_step(model, trainer.data_collator(rows)) for rows in batches]
    return torch.stack(losses).mean()


@contextmanager
def _checkpointed(model: Any, *, embeddings: bool = False) -> Iterator[None]:
    """What `train()` switches on, and for the embeddings TRL's constructor."""
    if embeddings:
        model.enable_input_require_grads()
    model.activation_checkpointing_enable()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        if embeddings:
            model.disable_input_require_grads()


def _precomputed(both: Trainers, rows: list[Row]) -> list[Row]:
    """Rows with the columns that `precompute_ref_log_probs` adds."""
    inputs = both.theirs._prepare_inputs(both.theirs.data_collator(rows))
    with gpu_path(both.model.device):
        sides = both.theirs.compute_ref_log_probs(both.model, inputs)
    chosen, rejected = (side.tolist() for side in sides)
    columns = zip(rows, chosen, rejected, strict=True)
    return [{**row, "ref_chosen_logps": c, "ref_rejected_logps": r} for row, c, r in columns]


def _fill(both: Trainers, batches: Batches) -> None:
    """Fill the cache, until it no longer computes again what it finds."""
    collated = [both.ours.data_collator(rows)["batch"].to(both.model.device) for rows in batches]
    both.cached.fill(collated)
    while both.cached.hits < CHECKED:
        both.cached.fill(collated)
