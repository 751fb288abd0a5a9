"""What a second branch costs: time per token of two-branch decoding against plain generate.

    python benchmarks/decoding.py                      # SmolLM2-135M's shape, random weights, CPU
    python benchmarks/decoding.py --model PATH_OR_ID   # a real model
    python benchmarks/decoding.py --shape llama-8b --device cuda --dtypes bfloat16

All contestants decode CAD (alpha 1) greedily in one process, interleaved. Before a time is printed
they must give the same tokens in float32, and in half precision no larger an error than the naive
loop's own. On a CPU the clock is process CPU time on one thread, on CUDA device time. "decode" is
the time of one token after the first, "first" that of prefill and the first token; both are the
best of all rounds, as ratios to plain generate on the main prompt.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig

from contralign.decoding import CAD, generate, processor

SHAPES = {
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}
METHOD = CAD(alpha=1.0)
Run = Callable[[Any, "Case", int], Tensor]


@dataclass(frozen=True)
class Case:
    """One batch: `[rows, main]` and `[rows, contrast]` random prompts without padding."""

    rows: int
    main: int
    contrast: int

    def prompts(self, model: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
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


def plain(model: Any, case: Case, count: int) -> Tensor:
    main, _ = case.prompts(model)
    return model.generate(**main, **options(count))[:, case.main :]


def ours(execution: str) -> Run:
    def run(model: Any, case: Case, count: int) -> Tensor:
        main, contrast = case.prompts(model)
        found = generate(model, main, METHOD, contrast, execution, **options(count))
        assert isinstance(found, Tensor)
        return found[:, case.main :]

    return run


def our_processor(model: Any, case: Case, count: int) -> Tensor:
    main, contrast = case.prompts(model)
    added = processor(model, main, METHOD, contrast)
    return model.generate(**main, **options(count), logits_processor=[added])[:, case.main :]


def guidance_scale(model: Any, case: Case, count: int) -> Tensor:
    """transformers' own contrast: CAD with alpha = guidance_scale - 1."""
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
    return torch.stack([scores.argmax(-1) for scores in naive_logits(model, case, count)], dim=1)


CONTESTANTS: dict[str, Run] = {
    "plain generate": plain,
    "ours, merged": ours("merged"),
    "ours, sequential": ours("sequential"),
    "ours, processor": our_processor,
    "transformers guidance_scale": guidance_scale,
    "naive two-forward loop": naive_loop,
}


def check_tokens(model: Any, case: Case, count: int) -> None:
    """Refuse to time contestants that don't decode the same thing."""
    reference = naive_loop(model, case, count)
    for name, run in CONTESTANTS.items():
        if name != "plain generate" and not torch.equal(run(model, case, count), reference):
            raise SystemExit(f"{name} gave other tokens than the naive loop on {case}: no times.")


def check_errors(model: Any, exact: Any, case: Case, count: int) -> float:
    """Compare half-precision scores along one text with the exact model's; return our share.

    Raises:
        SystemExit: Our error is more than a quarter larger than the naive loop's.
    """
    main, contrast = case.prompts(model)
    shape = options(count) | {"return_dict_in_generate": True, "output_logits": True}
    found: Any = generate(model, main, METHOD, contrast, "merged", **shape)
    text = found.sequences[:, case.main :]
    truth = torch.stack(list(naive_logits(exact, case, count, text)))
    theirs = torch.stack(list(naive_logits(model, case, count, text)))
    our_error = (torch.stack(found.logits).to(truth.device) - truth).square().mean().sqrt()
    their_error = (theirs.to(truth.device) - truth).square().mean().sqrt()
    share = (our_error / their_error).item()
    if share > 1.25:
        raise SystemExit(f"merged scores err {share:.2f} times as much as the naive loop's.")
    return share


def seconds(run: Run, model: Any, case: Case, count: int) -> float:
    gc.collect()
    if model.device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run(model, case, count)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    begun = time.process_time()
    run(model, case, count)
    return time.process_time() - begun


def measure(model: Any, case: Case, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Time every contestant in turn, `rounds` times, with one and with `count` tokens."""
    times: dict[str, dict[int, list[float]]] = {name: {1: [], count: []} for name in CONTESTANTS}
    for round_ in range(rounds + 1):
        for name, run in CONTESTANTS.items():
            for tokens in (1, count):
                took = seconds(run, model, case, tokens)
                if round_:  # the first one warms up
                    times[name][tokens].append(took)
    results = {}
    for name, by_count in times.items():
        first, total = min(by_count[1]), min(by_count[count])
        results[name] = {"first": first, "decode": (total - first) / (count - 1), "total": total}
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            CONTESTANTS[name](model, case, count)
            results[name]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    base = results["plain generate"]
    lines = [f"{'':28} {'decode':>15} {'first':>15} {'total':>8}"]
    for name, row in results.items():
        cells = [f"{1000 * row[k]:7.1f} ms {row[k] / base[k]:4.2f}x" for k in ("decode", "first")]
        lines.append(
            f"{name:28} {cells[0]:>15} {cells[1]:>15} {row['total'] / base['total']:7.2f}x"
        )
    return "\n".join(lines)


def load(arguments: argparse.Namespace, dtype: torch.dtype) -> Any:
    if arguments.model:
        model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    else:
        torch.manual_seed(0)
        config = LlamaConfig(**SHAPES[arguments.shape], max_position_embeddings=8192)
        with torch.device(arguments.device):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model.to(arguments.device).eval()


def facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """The machine and the versions a result belongs to."""
    device = arguments.device
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "arguments": vars(arguments),
    }


def parsed(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="a hub id or path; without it, random weights of --shape")
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--lengths", nargs="+", default=["256:256", "256:64"], help="main:contrast")
    parser.add_argument("--tokens", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    return parser.parse_args(given)


def main() -> None:
    arguments = parsed()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.dtypes:
        dtype = getattr(torch, name)
        model = load(arguments, dtype)
        exact = model if dtype == torch.float32 else load(arguments, torch.float32)
        for lengths, batch in product(arguments.lengths, arguments.batch):
            case = Case(batch, *map(int, lengths.split(":")))
            share = 1.0
            if dtype == torch.float32:
                check_tokens(model, case, arguments.tokens)
            else:
                share = check_errors(model, exact, case, arguments.tokens)
            results = measure(model, case, arguments.tokens, arguments.rounds)
            gate = (
                "same tokens" if dtype == torch.float32 else f"error {share:.2f}x the naive loop's"
            )
            print(f"\n{name}, batch {batch}, main {case.main}, contrast {case.contrast} ({gate})")
            print(table(results), flush=True)
            rows.append({"dtype": name, **asdict(case), "error_share": share, "seconds": results})
        del model, exact
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"facts": facts(arguments), "results": rows}, indent=1, default=str)
        )


if __name__ == "__main__":
    main()
