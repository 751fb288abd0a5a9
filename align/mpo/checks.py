"""What stage 2 can't do, refused before stage 1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftConfig
from transformers import ProcessorMixin

from ..support import cannot_draw
from ..vllm import IN_MEMORY
from .config import MPOConfig, OnlineConfig

SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


def check_whole(args: MPOConfig) -> None:
    """Refuse weights that are spread over devices, which stage 2 can't sample from.

    Raises:
        ValueError: With the way out.
    """
    launched = [name for name in SHARDED if os.environ.get(name, "false").lower() in ("1", "true")]
    if launched or args.deepspeed or args.fsdp:
        raise ValueError(
            f"MPO needs whole weights on each process, got FSDP or DeepSpeed"
            f"{f' ({launched[0]})' if launched else ''}. Start with "
            "configs/accelerate/ddp.yaml."
        )


def check_columns(columns: Sequence[str]) -> None:
    """Refuse numbers that only stage 1 would read.

    Raises:
        ValueError: With the way out.
    """
    if "weight" in columns:
        raise ValueError(
            "stage 2 can't weigh prompts, but the data has a weight column. Leave it out; a second "
            "row of a prompt counts twice."
        )


def check_second(
    args: OnlineConfig, processor: Any, model: Any, adapter: PeftConfig | None, quantized: bool
) -> None:
    """Refuse what would be refused only after stage 1.

    Args:
        args: The options of stage 2.
        processor: Tokenizer or processor.
        model: Hub id or folder, or a model.
        adapter: What is trained, if not all weights.
        quantized: Whether the model's weights will be.

    Raises:
        ValueError: With the way out.
    """
    if args.use_transformers_continuous_batching and isinstance(processor, ProcessorMixin):
        raise ValueError(
            "stage2: continuous batching draws samples of text only, but "
            f"{type(processor).__name__} reads more. Set use_transformers_continuous_batching: "
            "false."
        )
    found = None
    if not isinstance(model, str) and not model.name_or_path:
        found = IN_MEMORY
    elif quantized or not (adapter is None or isinstance(adapter, LoraConfig)):
        found = "it gets weights with LoRA merged into them, and these aren't"
    if args.use_vllm and found:
        raise cannot_draw("stage2: vLLM", found, "use_vllm")


def check_adapter(adapter: PeftConfig | None) -> None:
    """Refuse an adapter of the head, which TRL's RLOO looks past.

    Raises:
        ValueError: With the way out.
    """
    targets = getattr(adapter, "target_modules", None) or ()
    if not isinstance(targets, str) and "lm_head" in targets:
        raise ValueError(
            "stage 2 reads lm_head without an adapter, got lora_target_modules with lm_head. Leave "
            "it out."
        )
