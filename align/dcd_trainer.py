"""DCD: an image projection for chosen answers and one for rejected answers, trained apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contralign.decoding.projections import Base, Projections

from .card import Paper
from .data.checks import undecoded
from .data.formats import IMAGES
from .dcd_config import DCDConfig
from .decoupled import OWN, SIDES, DecoupledEngine, decoupled, one_side, trained_tensors
from .losses.token_mean import TokenMean
from .policy import load_policy, silence_dropout
from .positions import TOKEN_TYPES
from .support import language_model
from .trainer import PreferenceTrainer

PAPER = Paper(
    method="DCD",
    title="Decoupling Contrastive Decoding: Robust Hallucination Mitigation in Multimodal Large "
    "Language Models",
    authors="Chen et al.",
    year=2025,
    arxiv="2504.08809",
)
# What a resumed run goes on with.
TRAINED = "trained.safetensors"


class DCDTrainer(PreferenceTrainer):
    """Trains projections: `DCDTrainer("model", DCDConfig("out"), train_dataset=rows).train()`.

    The two losses share no parameter, and gradients are clipped for each projection alone, so both
    in one run are what they are in two.

    Args:
        model: Hub id or folder of a vision-language model, or a model.
        args: The options.
        **others: Of `PreferenceTrainer`; `peft_config` is LoRA on the projections, which are saved
            merged.

    Raises:
        ValueError: The model doesn't see, rows have no images, or see `PreferenceTrainer`.
    """

    loss: TokenMean
    usage = (
        "```python\nfrom contralign.decoding import DCD, generate\n\n"
        'method = DCD.from_pretrained("FOLDER")\n'
        "branch = method.branches(processor, messages, images)\n"
        "ids = generate(model, inputs, method, branch)\n```\n\n"
        "```bash\ncontralign generate --model ... --method dcd:path=FOLDER --image FILE --question "
        "'...'\n```"
    )

    def __init__(self, model: str | Path | nn.Module, args: DCDConfig, **others: Any) -> None:
        if others.get("quantization_config") is not None:
            raise ValueError(
                "a projector in fewer bits can't be trained, got load_in_4bit or load_in_8bit. "
                "Leave it out."
            )
        for name in ("train_dataset", "eval_dataset"):
            _check_rows(others.get(name), name)
        trained = ("rejected",) if args.variant == "neg_only" else ("chosen", "rejected")
        super().__init__(model, args, loss=TokenMean(trained), paper=PAPER, **others)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "projections are small and trained whole, got FSDP or DeepSpeed. Start with "
                "configs/accelerate/ddp.yaml."
            )

    def _policy(self, model: Any, args: Any, adapter: Any, quantized: Any) -> Any:
        whole = language_model(load_policy(model, args) if isinstance(model, str) else model)
        self._described = Base.of(whole)
        sides = [SIDES[name] for name in ("rejected", "chosen")]
        policy = decoupled(whole, sides[: 1 + (args.variant == "pos_neg")], adapter)
        if args.disable_dropout:
            silence_dropout(policy)
        return policy

    def _engine(self, policy: Any, args: Any) -> Any:
        return DecoupledEngine(policy, args.log_prob_path)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute this process's share of an update's losses; see `PreferenceTrainer`.

        Evaluation reads all answers through either projection. `rewards` are what decoding adds to
        an answer's log-prob with alpha 1: `log p_positive - log p_negative`, in nats (ours).
        """
        images = inputs["batch"].images
        if not images or not all(any(name not in TOKEN_TYPES for name in row) for row in images):
            raise ValueError("DCD trains on pictures, got a row without. Leave such rows out.")
        if not model.training:
            return self._evaluated(model, inputs)
        (*_, last) = trained = self.loss.sides
        if len(trained) == 1:
            inputs = {**inputs, "batch": one_side(inputs["batch"], last)}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _evaluated(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        batch = inputs["batch"]
        real = inputs.get("real", len(batch))
        with self.accelerator.autocast():
            read = self.engine.both(batch, through=model)
        positive, negative = read["positive"], read["negative"]
        scored = type(positive)(
            torch.stack([positive.logps[:, 0], negative.logps[:, 1]], dim=1), positive.entropy
        )
        losses, numbers = self.loss(scored.logps, None, batch)
        if "weight" in batch.columns:
            losses = losses * batch.columns["weight"].to(losses)
        chosen, rejected = (positive.logps - negative.logps).sum(-1).unbind(1)
        told = {
            "loss": losses,
            **numbers,
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
        }
        self.journal.add(batch, scored, None, told, real, training=False)
        return losses[:real].sum() / max(real, 1)

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip each projection's gradient by itself; the norm of the log is that of all."""
        norms = [
            self.accelerator.clip_grad_norm_(side.parameters(), self.args.max_grad_norm)
            for side in self._projections().values()
        ]
        return torch.stack([torch.as_tensor(norm) for norm in norms]).norm()

    def _projections(self) -> Any:
        return self.accelerator.unwrap_model(self.model).get_submodule(OWN)

    # Keeping

    def _write(self, folder: str | None, state_dict: Any) -> None:
        if not self.args.should_save:
            return
        where, policy = (
            Path(folder or self.args.output_dir),
            self.accelerator.unwrap_model(self.model),
        )
        told = {
            "data": self.record.settings.get("dataset_name") or "; ".join(self.sets.lines()),
            "steps": self.state.global_step,
        }
        sides = {side: trained_tensors(policy, side) for side in self._projections()}
        base = Base(self.base, self._described.shapes, self._described.probe)
        Projections(base, sides["negative"], sides.get("positive"), told).save(where)
        if self._checkpointing:
            save_file(self._trained(), where / TRAINED)

    def _trained(self) -> dict[str, Tensor]:
        """The tensors that updates change."""
        named = self._projections().named_parameters()
        return {name: x.detach().contiguous() for name, x in named if x.requires_grad}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        own = self._trained()
        with torch.no_grad():
            for name, value in load_file(Path(resume_from_checkpoint) / TRAINED).items():
                own[name].copy_(value)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def _check_rows(data: Any, name: str) -> None:
    """Refuse rows without pictures, or with what isn't read, before anything is loaded."""
    for rows in data.values() if isinstance(data, Mapping) else [data]:
        if not isinstance(rows, Dataset | IterableDataset):
            continue
        columns = rows.column_names or ()
        if not {*IMAGES, "prompt_ids"} & {*columns}:
            raise ValueError(
                f"DCD trains on pictures, but the rows of {name} have {', '.join(columns)}. Add a "
                "column of images."
            )
        if "margin" in columns:
            raise ValueError(
                f"a margin is between two answers, which DCD never compares, but {name} has one. "
                "Leave the column out."
            )
        column = next((one for one in IMAGES if one in columns), None)
        if column is None or isinstance(rows, IterableDataset):
            continue
        blind = [
            i for i, row in enumerate(undecoded(rows.select_columns(column))) if not row[column]
        ]
        if blind:
            raise ValueError(
                f"DCD trains on pictures, but {len(blind)} rows of {name} have none, the first is "
                f"row {blind[0]}. Leave them out."
            )
