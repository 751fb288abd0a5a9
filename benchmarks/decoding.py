"""What a second branch costs: time per token of two-branch decoding against plain generate.

    python benchmarks/decoding.py                      # SmolLM2-135M's shape, random weights, CPU
    python benchmarks/decoding.py --model PATH_OR_ID   # a real model

Nothing is timed before it has passed the gate of contest.py. On a GPU, see gpu.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from clock import measure, table, write
from contest import CONTESTANTS, Case, check_errors, check_tokens
from shapes import SHAPES, random_model, ready
from transformers import AutoModelForCausalLM

from contralign.eval.machine import machine, versions


def load(arguments: argparse.Namespace, dtype: torch.dtype) -> Any:
    """The model that was named, or random weights of the shape."""
    device = torch.device(arguments.device)
    if not arguments.model:
        return random_model(arguments.shape, dtype, device)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype)
    return ready(model.to(device))


def measured(model: Any, case: Case, tokens: int, rounds: int) -> dict[str, Any]:
    """Let the contestants through the gate, then time them and print the table."""
    dtype, share = str(model.dtype).removeprefix("torch."), 1.0
    if model.dtype == torch.float32:
        check_tokens(model, case, tokens, CONTESTANTS)
        gate = "same tokens"
    else:
        share = check_errors(model, case, tokens)
        gate = f"error {share:.2f}x the naive loop's"
    results = measure(model, case, tokens, rounds, CONTESTANTS)
    print(f"\n{dtype}, batch {case.rows}, main {case.main}, contrast {case.contrast} ({gate})")
    print(table(results), flush=True)
    return {"dtype": dtype, **asdict(case), "error_share": share, "contestants": results}


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
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


def main(given: Sequence[str] | None = None) -> None:
    """Measure every dtype, batch and length, and keep the numbers if asked to."""
    arguments = parsed(given)
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    facts = {**machine(), "versions": versions(), "arguments": vars(arguments)}
    rows = []
    for dtype in arguments.dtypes:
        model = load(arguments, getattr(torch, dtype))
        for lengths, batch in product(arguments.lengths, arguments.batch):
            case = Case(batch, *map(int, lengths.split(":")))
            rows.append(measured(model, case, arguments.tokens, arguments.rounds))
        del model
    if arguments.json:
        write(arguments.json, {"facts": facts, "results": rows})


if __name__ == "__main__":
    main()
