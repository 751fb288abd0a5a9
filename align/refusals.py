"""TRL's keys that we don't honour: each is refused by name, unless its value changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import trl


class Refusal(NamedTuple):
    """Why a key isn't honoured.

    Attributes:
        harmless: Values that ask for nothing.
        reason: Why, and the way out.
    """

    harmless: tuple[Any, ...]
    reason: str


TRL_KEYS: Mapping[str, Refusal] = {
    "f_divergence_type": Refusal(
        ("reverse_kl",), "only the reverse KL of the paper is here. Leave it out."
    ),
    "f_alpha_divergence_coef": Refusal((0.5,), "it is of f_divergence_type. Leave it out."),
    "ld_alpha": Refusal(
        (None, 1.0), "LD-DPO isn't here. Leave it out; loss_type: ipo averages over tokens."
    ),
    "use_weighting": Refusal(
        (False,),
        "WPO's weights aren't computed here. Put your own into a column `weight` of the data.",
    ),
    "loss_weights": Refusal(
        (None, [1.0]), "one loss is trained at a time. Name one loss_type and leave it out."
    ),
    "discopop_tau": Refusal((0.05,), "it is of the loss discopop, which isn't here. Leave it out."),
    "router_aux_loss_coef": Refusal(
        (None, 0.0),
        "no balancing loss is added: the routers keep what the base model learned. Leave it out.",
    ),
    "activation_offloading": Refusal(
        (False,), 'set gradient_checkpointing_kwargs: {"offload": true} instead.'
    ),
    "use_liger_kernel": Refusal(
        (False,), "the head is computed in chunks without it. Leave it out."
    ),
    "truncation_mode": Refusal(
        ("keep_start",), "a cut completion loses its end. Leave it out, or raise max_length."
    ),
    "precompute_ref_batch_size": Refusal(
        (None,), "the cache of the reference fills as training goes. Leave it out."
    ),
    "pad_to_multiple_of": Refusal((None, "auto"), "nothing is padded. Leave it out."),
    "pad_token": Refusal(
        (None,), "nothing is padded with it; set it on the tokenizer. Leave it out."
    ),
}
# A key of ours that has one value.
FIXED: Mapping[str, Refusal] = {
    "padding_free": Refusal(
        (None, True),
        "rows have no padding where the model allows it. Leave it out, or log_prob_path: padded.",
    ),
}
TRAINER_KEYS: Mapping[str, Refusal] = {
    "label_smoothing_factor": Refusal(
        (0.0,), "it smooths cross-entropy. label_smoothing is what smooths preferences."
    ),
    "neftune_noise_alpha": Refusal(
        (None,), "its noise would reach the reference too. Leave it out."
    ),
    "include_num_input_tokens_seen": Refusal(
        ("no", False), "num_tokens is always logged. Leave it out."
    ),
    "include_for_metrics": Refusal(
        ([],), "evaluation measures log-probs and keeps no inputs. Leave it out."
    ),
    "batch_eval_metrics": Refusal((False,), "there is no compute_metrics. Leave it out."),
    "fp16_full_eval": Refusal(
        (False,), "it would cast the weights, which the reference shares. Set fp16 instead."
    ),
    "bf16_full_eval": Refusal(
        (False,), "it would cast the weights, which the reference shares. Set bf16 instead."
    ),
    "torch_compile": Refusal(
        (False,), "rows change their shape with every batch, so it would compile for ever."
    ),
    "average_tokens_across_devices": Refusal(
        (True,), "examples are averaged over all processes. Leave it out."
    ),
    "parallelism_config": Refusal(
        (None,), "rows aren't split over devices. Shard the model: configs/accelerate/fsdp2.yaml."
    ),
    "train_sampling_strategy": Refusal(
        ("random", "sequential"), "rows have no padding to save. Take random or sequential."
    ),
}

# Keys of some methods -> what to do in the others.
REWARDED = (
    "rewards are for copg, whose loss reads scores. Leave it out, or let `contralign data score` "
    "write them next to the data."
)
OTHERS_KEYS: Mapping[str, str] = {
    "beta": "cpl calls its temperature alpha, mpo has one a stage, and dcd has none.",
    "reward_column": REWARDED,
    "reward_funcs": REWARDED,
    "reward_model_name_or_path": REWARDED,
}
FORMER_KEYS: Mapping[str, str] = {
    "evaluation_strategy": "it's called eval_strategy.",
    "force_use_ref_model": "set reference: PATH.",
    "generate_during_eval": "set eval_samples to how many prompts to answer at each evaluation.",
    "group_by_length": "rows have no padding to save. Leave it out.",
    "label_pad_token_id": "nothing is padded. Leave it out.",
    "logging_dir": "report_to: tensorboard reads the environment's TENSORBOARD_LOGGING_DIR.",
    "max_completion_length": "max_length bounds prompt and completion together.",
    "max_prompt_length": "max_length bounds prompt and completion together.",
    "model_adapter_name": "the active adapter is trained. Leave it out.",
    "overwrite_output_dir": "choose a new output_dir, or resume_from_checkpoint: true.",
    "ref_adapter_name": "set reference: adapter, or the adapter's folder.",
    "ref_model_init_kwargs": "a reference is loaded as the model is. Leave it out.",
    "reference_free": "set reference: none.",
    "rpo_alpha": "RPO's term on the chosen answers isn't here. Leave it out.",
    "torch_dtype": "it's called dtype.",
    "use_vllm": "only hypo, copg and mpo draw samples. Leave it out.",
    "use_liger_loss": "the head is computed in chunks without it. Leave it out.",
    "use_logits_to_keep": "only completions go through the head. Leave it out.",
    "warmup_ratio": "it's called warmup_steps: below 1 it's a share of all steps.",
}


@dataclass
class TRLOnly:
    """TRL's keys that are known by name and not honoured."""

    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    ld_alpha: float | None = None
    use_weighting: bool = False
    loss_weights: list[float] | None = None
    discopop_tau: float = 0.05
    router_aux_loss_coef: float | None = None
    activation_offloading: bool = False
    truncation_mode: str = "keep_start"
    precompute_ref_batch_size: int | None = None
    pad_to_multiple_of: str | None = None
    pad_token: str | None = None


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say to a key that nobody knows: where it went, or the nearest right one."""
    if "stage2" in known and name in {spec.name for spec in fields(trl.RLOOConfig)}:
        return (
            f"there is no key {name!r} of the whole run: it's of stage 2, stage2: {{{name}: ...}}."
        )
    elsewhere = {**FORMER_KEYS, **OTHERS_KEYS}
    if name in elsewhere:
        return f"there is no key {name!r}: {elsewhere[name]}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"there is no key {name!r}. " + (
        f"Did you mean {close[0]!r}?" if close else "See contralign train METHOD --help."
    )


def refuse(config: Any) -> None:
    """Refuse the first key that asks for something that isn't here.

    Raises:
        ValueError: With the key, the value received and the way out.
    """
    for name, refusal in {**TRL_KEYS, **FIXED, **TRAINER_KEYS}.items():
        value = getattr(config, name, None)
        if value is not None and value not in refusal.harmless:
            raise ValueError(f"{name} isn't supported, got {value!r}: {refusal.reason}")
