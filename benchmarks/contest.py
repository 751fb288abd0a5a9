"""Ways to decode CAD (alpha 1) greedily, held against one another in one process.

The gate comes before any clock: in float32 all must give the same tokens, and in half precision
merged scores may err little more than the naive loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from contralign.decoding import CAD, generate, processor

METHOD = CAD(alpha=1.0)
MOST = 1.25  # merged errors, as a share of the naive loop's
Run = Callable[[Any, "Case", int], Tensor]


@dataclass(frozen=True)
class Case:
    """One batch: `[rows, main]` and `[rows, contrast]` random prompts without padding."""

    rows: int
    main: int
    contrast: int

    def prompts(self, model: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw them: the same for the same case."""
        generator = torch.Generator().manual_seed(self.rows * self.main)

        def batch(length: int) -> dict[str, Tensor]:
            shape = (self.rows, length)
            ids = torch.randint(3, model.config.vocab_size, shape, generator=generator)
            return {
                "input_ids": ids.to(model.device),
                "attention_mask": torch.ones_like(ids).to(model.device),
            }

        return batch(self.main), batch(self.contrast)


def options(count: int) -> dict[str, Any]:
    """Exactly `count` tokens, greedily."""
    return {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}


def plain(**extra: Any) -> Run:
    """`generate` on the main prompt alone, with further options."""

    def run(model: Any, case: Case, count: int) -> Tensor:
        main, _ = case.prompts(model)
        return model.generate(**main, **options(count), **extra)[:, case.main :]

    return run


def ours(execution: str, **extra: Any) -> Run:
    """The view, with further options of `generate`."""

    def run(model: Any, case: Case, count: int) -> Tensor:
        main, contrast = case.prompts(model)
        found: Any = generate(model, main, METHOD, contrast, execution, **options(count), **extra)
        return found[:, case.main :]

    return run


def our_processor(model: Any, case: Case, count: int) -> Tensor:
    """The contrast as a logits processor."""
    main, contrast = case.prompts(model)
    added = processor(model, main, METHOD, contrast)
    return model.generate(**main, **options(count), logits_processor=[added])[:, case.main :]


def guidance_scale(model: Any, case: Case, count: int) -> Tensor:
    """The contrast of transformers itself: CAD with alpha = guidance_scale - 1."""
    main, contrast = case.prompts(model)
    negative = {f"negative_prompt_{k.removeprefix('input_')}": v for k, v in contrast.items()}
    scale = 1 + METHOD.alpha
    found = model.generate(**main, **negative, guidance_scale=scale, **options(count))
    return found[:, case.main :]


@torch.no_grad()
def naive_logits(model: Any, case: Case, count: int, fed: Tensor | None = None) -> Iterator[Tensor]:
    """Two forwards and two caches a token, as in reference scripts; greedy, or along `fed`."""
    tokens = [batch["input_ids"] for batch in case.prompts(model)]
    caches = [DynamicCache(config=model.config) for _ in tokens]
    for step in range(count):
        logits = [
            model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            for ids, cache in zip(tokens, caches, strict=True)
        ]
        scores = METHOD.rule(*(x.float() for x in logits))
        yield scores
        chosen = scores.argmax(-1, keepdim=True) if fed is None else fed[:, step, None]
        tokens = [chosen, chosen]


def naive_loop(model: Any, case: Case, count: int) -> Tensor:
    """The reference."""
    return torch.stack([scores.argmax(-1) for scores in naive_logits(model, case, count)], dim=1)


BASE = "plain generate"
CONTESTANTS: dict[str, Run] = {
    BASE: plain(),
    "ours, merged": ours("merged"),
    "ours, sequential": ours("sequential"),
    "ours, processor": our_processor,
    "transformers guidance_scale": guidance_scale,
    "naive two-forward loop": naive_loop,
}


def check_tokens(model: Any, case: Case, count: int, contestants: Mapping[str, Run]) -> None:
    """Refuse to time contestants that don't decode the same thing.

    Raises:
        SystemExit: One gave other tokens than the naive loop, or, named plain, than `generate`.
    """
    contrasted, alone = (run(model, case, count) for run in (naive_loop, plain()))
    for name, run in contestants.items():
        reference = alone if name.startswith("plain") else contrasted
        if not torch.equal(run(model, case, count), reference):
            raise SystemExit(f"{name} gave other tokens than its reference on {case}: no times.")


def check_errors(model: Any, case: Case, count: int) -> float:
    """Compare half-precision scores along one text with the exact ones; return our share.

    Raises:
        SystemExit: Our error is more than a quarter larger than the naive loop's.
    """
    main, contrast = case.prompts(model)
    shape = options(count) | {"return_dict_in_generate": True, "output_logits": True}
    found: Any = generate(model, main, METHOD, contrast, "merged", **shape)
    text = found.sequences[:, case.main :]
    theirs = torch.stack(list(naive_logits(model, case, count, text)))
    with exact(model):
        truth = torch.stack(list(naive_logits(model, case, count, text)))
    errors = [(x - truth).square().mean().sqrt() for x in (torch.stack(found.logits), theirs)]
    share = (errors[0] / errors[1]).item()
    if not share <= MOST:
        raise SystemExit(f"merged scores err {share:.2f} times as much as the naive loop's.")
    return share


@contextmanager
def exact(model: nn.Module) -> Iterator[None]:
    """Let a half-precision model compute in float32, holding one layer's weights in it at a time.

    Half-precision weights are float32 numbers too: this is what their model rounds, and it needs
    no room for a copy of an 8B model.
    """

    def widen(module: nn.Module, _: Any) -> None:
        module.float()

    def narrow(module: nn.Module, _: Any, __: Any) -> None:
        module.to(dtype)

    dtype: Any = model.dtype
    owners = [module for module in model.modules() if list(module.parameters(recurse=False))]
    hooks = [owner.register_forward_pre_hook(widen) for owner in owners]
    hooks += [owner.register_forward_hook(narrow) for owner in owners]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
