"""Reward models: TRL's RewardTrainer with the checks, checkpoints and cards of our trainers.

The loss is Bradley-Terry's, `-logsigmoid(r(chosen) - r(rejected) - margin)`, as in Ouyang et al.
2022, arXiv 2203.02155, Eq. 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import trl
from peft import PeftConfig
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from transformers.utils import find_adapter_config_file
from trl.data_utils import common_prefix_length

from .batch import Batch
from .card import Paper
from .config import choose_precision, name_checkpointing, require_folder
from .flow import Lines
from .journal import Journal
from .kept import Kept
from .measured import Measured
from .metrics import FEWEST
from .policy import check_quantization, tokenizer_of
from .python_record import python_record
from .record import Record
from .reward_data import RewardSets
from .stop import FiniteGuard, Seen

PAPER = Paper(
    method="Bradley-Terry",
    title="Training language models to follow instructions with human feedback",
    authors="Ouyang et al.",
    year=2022,
    arxiv="2203.02155",
)
USE = """```python
from contralign.align import ModelReward

reward = ModelReward("FOLDER")
print(reward([prompt], [completion]))
```

```bash
contralign data score pairs.jsonl --reward-model-name-or-path FOLDER --output scored.jsonl
```"""
# TRL's names of what it measures -> those of our other trainers.
NAMES = {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}
REFUSED = {
    "eos_token": "set it on the tokenizer and save that beside the model",
    "chat_template_path": "set chat_template on the tokenizer and save that beside the model",
}


@dataclass
class RewardConfig(trl.RewardConfig):
    """TRL's options of `RewardTrainer`, and what becomes of rows that can't be trained on.

    Attributes:
        bf16: Whether to compute in bfloat16 (autocast). Default: as `accelerate launch` says, else
            where a GPU has it.
        dataloader_pin_memory: Off where there is no accelerator.
        logging_nan_inf_filter: Off: a loss that isn't finite stops the run.
        max_length: Tokens of a prompt with its completion; longer pairs can't be trained on.
        on_problem: What to do with a row that can't be trained on: stop, or go on without it.
    """

    logging_nan_inf_filter: bool = False
    on_problem: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        require_folder(self)
        for name, way_out in REFUSED.items():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} isn't supported, got {getattr(self, name)!r}: {way_out}.")
        if self.on_problem not in ("error", "drop"):
            raise ValueError(f"on_problem is one of error, drop, got {self.on_problem!r}.")
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ValueError("load_best_model_at_end compares evaluations. Set eval_strategy.")
        choose_precision(self)
        name_checkpointing(self)
        # Without an accelerator torch warns of it at every loader.
        self.dataloader_pin_memory: bool = (
            self.dataloader_pin_memory and torch.accelerator.is_available()
        )
        super().__post_init__()


class RewardTrainer(Kept, trl.RewardTrainer):
    """Trains a sequence classifier with one logit on pairs.

    Args:
        model: Hub id or folder of a language model, whose head is replaced, or of a reward model.
        args: The options.
        train_dataset: Pairs in TRL's formats. They're checked before the model is loaded.
        eval_dataset: Held-out pairs, or several sets by name.
        processing_class: Tokenizer; default: the model's.
        peft_config: The adapter to train; its head is trained and saved with it.
        quantization_config: How to load the model's weights (QLoRA).
        callbacks: As in transformers.
        record: Where the run came from, for the model card.

    Raises:
        OSError: A model or file isn't there.
        ValueError: Data, model and options don't go together.
    """

    paper = PAPER
    usage = USE
    _sum, _warn = Measured._sum, Measured._warn

    def __init__(
        self,
        model: str | Path,
        args: RewardConfig,
        *,
        train_dataset: Any,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: PeftConfig | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        record: Record | None = None,
    ) -> None:
        name = str(model)
        _check_model(name, args)
        check_quantization(quantization_config, peft_config)
        if eval_dataset is None and args.eval_strategy != "no":
            raise ValueError(
                f"eval_strategy: {args.eval_strategy.value} needs an evaluation set, got none. Set "
                "test_split_size or dataset_test_split, or eval_strategy: no."
            )
        tokenizer = tokenizer_of(processing_class or _tokenizer(name, args))
        self.sets = RewardSets(args, tokenizer)
        rows = self.sets.prepared(train_dataset, "training")
        held_out = self.sets.prepared(eval_dataset, "evaluation")
        self.base = name
        self.record = record or python_record(
            name,
            "reward",
            dtype=_loading(args).get("dtype", "float32"),
            adapter=peft_config,
            quantized=quantization_config,
            missing={
                "train_dataset": train_dataset,
                "eval_dataset": eval_dataset,
                "processing_class": processing_class,
                "callbacks": callbacks,
            },
        )
        self.journal = Journal(exact_drift=False)
        self.guard = FiniteGuard(Path(args.output_dir), tokenizer.decode, args.process_index)
        self._margins: list[Tensor] = []
        super().__init__(
            name,
            args,
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=None if peft_config is None else _of_classifier(peft_config),
            quantization_config=quantization_config,
            callbacks=[Lines(), *(callbacks or [])],
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the loss of a batch as TRL does, and see that it's finite."""
        training = self.model.training
        if training:
            self.guard.check()
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if training:
            self.guard.watch(_seen(self.state.global_step, inputs, loss, outputs.logits))
            self.guard.check()
        measured = self._metrics["train" if training else "eval"]
        for theirs, ours in NAMES.items():
            measured[ours] += measured.pop(theirs, [])
        if not training:
            chosen, rejected = outputs.logits.detach().float().squeeze(-1).chunk(2)
            self._margins.append(self.accelerator.gather_for_metrics(chosen - rejected).cpu())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line; that of an evaluation has means over pairs, where TRL's are over batches."""
        if self._margins and not self.model.training:
            self._metrics["eval"].update(_means(torch.cat(self._margins)))
            self._margins.clear()
        super().log(logs, start_time)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write README.md and the curves; a checkpoint's come with the result."""
        if not self._checkpointing:
            super().create_model_card()


def _seen(step: int, inputs: Mapping[str, Tensor], loss: Tensor, logits: Tensor) -> Seen:
    """Take note of a batch in TRL's form: all chosen texts, then all rejected ones.

    What both texts of a pair begin with counts as their prompt, and TRL's loss is that of the
    batch: only the rewards tell its pairs apart.
    """
    lengths = inputs["attention_mask"].sum(-1).tolist()
    texts = [
        row[:length] for row, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)
    ]
    pairs = list(zip(texts[: len(texts) // 2], texts[len(texts) // 2 :], strict=True))
    shared = [min(common_prefix_length(*pair), *(len(one) - 1 for one in pair)) for pair in pairs]
    batch = Batch(
        [pair[0][:end] for pair, end in zip(pairs, shared, strict=True)],
        [[one[end:] for one in pair] for pair, end in zip(pairs, shared, strict=True)],
    )
    rewards = logits.detach().float().view(2, -1).T
    return Seen(step, batch, loss.detach().expand(len(pairs)), {"reward": rewards})


def _means(margins: Tensor) -> dict[str, list[float]]:
    """Shares and means over pairs, with their standard errors."""
    found = {}
    for name, values in (
        ("rewards/accuracies", (margins > 0).float()),
        ("rewards/margins", margins),
    ):
        found[name] = [values.mean().item()]
        if len(values) >= FEWEST:
            found[f"{name}_se"] = [(values.std() / math.sqrt(len(values))).item()]
    return found


def _check_model(name: str, args: RewardConfig) -> None:
    """Refuse what no reward model can be made of.

    Raises:
        ValueError: An adapter, or a classifier with several logits.
    """
    revision = _revision(args)
    if find_adapter_config_file(name, revision=revision) is not None:
        raise ValueError(
            f"training starts from a model, but {name} is an adapter. Merge it first: contralign "
            "merge."
        )
    config = AutoConfig.from_pretrained(
        name, revision=revision, trust_remote_code=args.trust_remote_code
    )
    kinds = config.architectures or []
    if any(kind.endswith("Classification") for kind in kinds) and config.num_labels != 1:
        raise ValueError(
            f"a reward model has one logit, but {name} is a {kinds[0]} with "
            f"num_labels={config.num_labels}. Start from the language model."
        )


def _tokenizer(name: str, args: RewardConfig) -> Any:
    return AutoTokenizer.from_pretrained(
        name, revision=_revision(args), trust_remote_code=args.trust_remote_code
    )


def _revision(args: RewardConfig) -> str | None:
    return _loading(args).get("revision")


def _loading(args: RewardConfig) -> dict[str, Any]:
    given = args.model_init_kwargs
    return given if isinstance(given, dict) else {}


def _of_classifier(adapter: PeftConfig) -> PeftConfig:
    """The same adapter for a classifier: PEFT then trains and saves the head beside it."""
    adapter = copy.copy(adapter)
    adapter.task_type = "SEQ_CLS"
    return adapter
