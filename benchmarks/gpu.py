"""What decoding and training cost on a GPU, at the true shape of an 8B model with random weights.

    python benchmarks/gpu.py                                # decoding: about 8 minutes on an H100
    accelerate launch --num_processes 1 benchmarks/gpu.py   # the same
    python benchmarks/gpu.py --parts training               # one of the three
    python benchmarks/gpu.py --shape tiny --device cpu      # does it run?

Decoding with a second branch. The gate comes first: in float32, at the same shape with two layers,
every contestant gives the tokens of its reference; in half precision, at the full shape, merged
scores may err little more than the naive loop's. What passes is timed (see clock.py). Prompt-lookup
drafts take one row, and a static cache makes transformers compile the decode step, so both are
timed on batch 1 and more tokens.

Training is training.py's contest and online.py's, with LoRA on a bfloat16 model. What runs out of
memory there is a result like a time. Any other contestant that failed makes this exit with an
error; the JSON names it and says why.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import online
import torch
import training
from accelerate import PartialState
from cases import options
from clock import Results, compared, described, measure, table, write
from contest import BASE, CONTESTANTS, Case, Run, check_errors, check_tokens, ours, plain
from shapes import SHAPES, config, random_model
from transformers import AutoModelForCausalLM

from contralign.eval.machine import machine, versions

PARTS = ("decoding", "training", "online")
LOOKUP = {"prompt_lookup_num_tokens": 4}
STATIC = {"cache_implementation": "static"}
DRAFTED: dict[str, Run] = {
    "plain, prompt lookup": plain(**LOOKUP),
    "merged, prompt lookup": ours("merged", **LOOKUP),
    "sequential, prompt lookup": ours("sequential", **LOOKUP),
}
COMPILED: dict[str, Run] = {
    "plain, static cache": plain(**STATIC),
    "merged, static cache": ours("merged", **STATIC),
}


def chosen_device(given: str | None) -> torch.device:
    """The device that was named, or Accelerate's for this process.

    Raises:
        SystemExit: Several processes, or no CUDA device where none was named.
    """
    state = PartialState(cpu=given == "cpu")
    if state.num_processes > 1:
        raise SystemExit(
            f"the benchmark measures one process on one device, got {state.num_processes}. Use "
            "accelerate launch --num_processes 1."
        )
    if given is None and state.device.type != "cuda":
        raise SystemExit(
            "the benchmark needs a CUDA device with about 60 GiB free for its largest batch, and "
            "PyTorch sees none. Run it on a machine with a GPU and a CUDA build of PyTorch, or see "
            "that it runs with --shape tiny --device cpu."
        )
    return state.device if given is None else torch.device(given)


def check_memory(shape: str, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a shape whose weights alone don't fit.

    Raises:
        SystemExit: Says how much is needed and how much there is.
    """
    if device.type != "cuda":
        return
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(shape), dtype=dtype)
    needed = sum(x.numel() * x.element_size() for x in model.parameters())
    free, _ = torch.cuda.mem_get_info(device)
    if free < needed:
        raise SystemExit(
            f"the weights of {shape} take {needed / 2**30:.1f} GiB, but {device} has "
            f"{free / 2**30:.1f} GiB free. Free some, or take a smaller --shape."
        )


def facts(device: torch.device) -> dict[str, Any]:
    """The machine, the versions and the GPU that the numbers belong to."""
    found = {**machine(), "versions": versions(), "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gpu"] = {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "driver": driver(),
            "cuda": torch.version.cuda,
        }
    return found


def driver() -> str | None:
    """The NVIDIA driver's version; None where nvidia-smi does not tell."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return None
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else None


def check_small(shape: str, device: torch.device, tokens: int) -> dict[str, str]:
    """Compare all tokens in float32 on two layers of the shape.

    Returns:
        The compiled contestants that fail, and why.

    Raises:
        SystemExit: A contestant gives other tokens than its reference.
    """
    model = random_model(shape, torch.float32, device, layers=2)
    for case in (Case(1, 96, 96), Case(4, 96, 40)):
        check_tokens(model, case, tokens, CONTESTANTS)
    check_tokens(model, Case(1, 96, 40), tokens, DRAFTED)
    failures = {}
    for name, run in COMPILED.items():
        try:
            check_tokens(model, Case(1, 96, 40), tokens, {name: run})
        except RuntimeError as error:
            failures[name] = described(error)
    return failures


def apart(model: Any, case: Case, tokens: int, rounds: int, failures: Mapping[str, str]) -> Results:
    """Time the compiled contestants that passed the gate, each as if it were alone.

    The shapes of one would make the compiler prepare for others when it comes to the next.
    """
    results: Results = {}
    for name, run in {BASE: CONTESTANTS[BASE], **COMPILED}.items():
        torch.compiler.reset()
        if name in failures:
            results[name] = {"error": failures[name]}
        else:
            results |= measure(model, case, tokens, rounds, {name: run})
    return compared(results)


def forwards(model: Any, case: Case, count: int, contestants: Mapping[str, Run]) -> dict[str, int]:
    """Count each contestant's forward passes: drafts that are accepted save some."""
    counts = {}
    for name, run in contestants.items():
        passes: list[None] = []
        hook = model.register_forward_hook(lambda *_, passes=passes: passes.append(None))
        run(model, case, count)
        hook.remove()
        counts[name] = len(passes)
    return counts


def sections(arguments: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure decoding, then training on pairs, then online."""
    if "decoding" in arguments.parts:
        yield from decoding(arguments, device)
    gc.collect()  # the model that was decoded with
    if "training" in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            bench = training.Workbench(arguments.shape, device, torch.bfloat16, Path(folder))
            yield from training.sections(arguments, bench)
    gc.collect()
    if "online" in arguments.parts:
        work, dtype = online.Work(*arguments.work), torch.bfloat16
        yield from online.sections(arguments.shape, device, dtype, work, arguments.rounds)


def decoding(arguments: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """Measure one batch after the other: all contestants, then drafts, then static caches."""
    failures = check_small(arguments.shape, device, arguments.tokens)
    print(f"{arguments.shape} on {device}: same tokens in float32, two layers", flush=True)
    model = random_model(arguments.shape, getattr(torch, arguments.dtype), device)
    tokens, rounds = arguments.tokens, arguments.rounds
    for lengths, rows in product(arguments.lengths, arguments.batch):
        case = Case(rows, *lengths)
        about = {"section": "two branches", **asdict(case), "tokens": tokens}
        try:
            share = check_errors(model, case, tokens)
        except torch.OutOfMemoryError as error:
            yield {**about, "contestants": {"the gate": {"error": described(error)}}}
            continue
        results = measure(model, case, tokens, rounds, CONTESTANTS)
        yield {**about, "error_share": share, "contestants": results}
    case, drafted = Case(1, *arguments.lengths[0]), {BASE: CONTESTANTS[BASE], **DRAFTED}
    about = {**asdict(case), "tokens": arguments.long}
    results = measure(model, case, arguments.long, rounds, drafted)
    counts = forwards(model, case, arguments.long, drafted)
    yield {"section": "prompt lookup", **about, "contestants": results, "forwards": counts}
    results = apart(model, case, arguments.long, rounds, failures)
    yield {"section": "static cache", **about, "contestants": results}


def shown(section: Mapping[str, Any]) -> str:
    """Lay one section out for a terminal."""
    if section["section"] == online.SECTION:
        return f"\n{online.shown(section)}"
    if section["section"] in training.SECTIONS:
        return f"\n{training.shown(section)}"
    title = "{section}, batch {rows}, main {main}, contrast {contrast}, {tokens} tokens"
    lines = ["", title.format(**section)]
    if "error_share" in section:
        lines.append(f"merged scores err {section['error_share']:.2f}x as much as the naive loop's")
    lines.append(table(section["contestants"]))
    if "forwards" in section:
        lines += [f"{name:28} {count:8} forwards" for name, count in section["forwards"].items()]
    return "\n".join(lines)


def pair(given: str) -> tuple[int, int]:
    """Read `main:contrast`."""
    main, contrast = map(int, given.split(":"))
    return main, contrast


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        parents=[options(256), online.options()],
    )
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b")
    parser.add_argument("--device", help="without it, the CUDA device that Accelerate chooses")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=[*PARTS], help="what to measure"
    )
    parser.add_argument("--rounds", type=int, default=2, help="after one that warms up")
    parser.add_argument("--json", type=Path, default=Path("runs/gpu.json"), help="all numbers")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument(
        "--lengths", nargs="+", type=pair, default=[(700, 700), (2048, 64)], help="main:contrast"
    )
    parser.add_argument("--tokens", type=int, default=17)
    parser.add_argument("--long", type=int, default=65, help="tokens with drafts or static caches")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Pass the gates, measure, and write one JSON, after every section anew.

    Raises:
        SystemExit: Nothing to run on, a gate that was not passed, or contestants that failed.
    """
    arguments, begun = parsed(given), time.perf_counter()
    training.quiet()
    device, dtype = chosen_device(arguments.device), getattr(torch, arguments.dtype)
    check_memory(arguments.shape, dtype, device)
    found: list[dict[str, Any]] = []
    report = {"facts": facts(device), "arguments": vars(arguments), "sections": found}
    for section in sections(arguments, device):
        print(shown(section), flush=True)
        found.append(section)
        write(arguments.json, {**report, "seconds": time.perf_counter() - begun})
    print(f"\nall numbers: {arguments.json}")
    rows = [row for section in found for row in section["contestants"].items()]
    failed = [f"{name} ({row['error']})" for name, row in rows if "error" in row]
    if failed := [one for one in failed if "OutOfMemoryError" not in one]:
        raise SystemExit(f"not measured: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
