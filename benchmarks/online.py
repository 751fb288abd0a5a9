"""What a step of online training costs, and where: our CoPG against TRL's RLOO.

    python benchmarks/online.py                       # a small model's true shape, CPU
    python benchmarks/online.py --shape body          # nearly no vocabulary

gpu.py does the same at an 8B model's shape. Random weights, LoRA of rank 16 on all linear layers,
one model for all. A step draws k completions of each prompt, all of one length (nobody may end
early), scores them with a reward that costs nothing and with the reference, and makes one update.
TRL generates with transformers, without checkpointing, and takes its GPU path on a CPU (see
training_contest.py). "scoring" is rewards and log-probs without gradient: the reference's, and
TRL's old ones, which ours has no use for. "ours, adapter beside" samples as TRL does, without
scratch weights; "ours, continuous batching" with scratch weights in transformers' other generator.
Nothing is timed before the gate: in float32 both trainers' log-probs of the same samples agree,
policy and reference, and all ways of ours draw the same tokens; half precision is let through by
two layers in float32. Times are taken in turn, each the best step of all rounds.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import training
from clock import Results, command, in_turn, write
from online_contest import (
    BESIDE,
    CONTINUOUS,
    Part,
    Trainers,
    Watch,
    Work,
    check,
    our_step,
    their_step,
    trainers,
)
from shapes import SHAPES, random_model

from contralign.eval.machine import machine, versions

SECTION = "online"
RLOO, OURS = "TRL RLOO", "ours"
PARTS = ("generation", "scoring", "update")


def timed(both: Trainers, step: Callable[[Trainers, Part], None]) -> dict[str, float]:
    gc.collect()
    watch = Watch(both.model.device)
    step(both, watch)
    return {part: watch.spent[part] for part in PARTS}


def measure(both: Trainers, rounds: int) -> Results:
    """Time all in turn.

    Returns:
        For each the seconds of its best step, whole and by part, all rounds, and how many times
        less it took than TRL's; one that fails (out of memory) has an `error` instead.
    """
    others = {f"ours, {how}": partial(our_step, how=how) for how in (BESIDE, CONTINUOUS)}
    steps = {RLOO: their_step, OURS: our_step, **others}
    acts = {name: partial(timed, both, step) for name, step in steps.items()}
    returned, errors = in_turn(acts, rounds)
    results: Results = {name: {"error": errors[name]} for name in errors}
    for name, (_, *taken) in returned.items():
        best = min(taken, key=lambda one: sum(one.values()))
        results[name] = {"seconds": sum(best.values()), **best, "rounds": taken}
    if RLOO in returned:
        base = dict(results[RLOO])
        for name in returned:
            row = results[name]
            row["times"] = {part: base[part] / row[part] for part in ("seconds", *PARTS)}
    return {name: results[name] for name in steps}


def sections(
    shape: str, device: torch.device, dtype: torch.dtype, work: Work, rounds: int
) -> Iterator[dict[str, Any]]:
    """Pass the gate and measure one kind of step."""
    with tempfile.TemporaryDirectory() as folder:
        exact = random_model(shape, torch.float32, device, layers=2)
        apart = check(trainers(exact, work, Path(folder, "exact")))
        both = trainers(random_model(shape, dtype, device), work, Path(folder, "timed"))
        if dtype == torch.float32:
            apart = max(apart, check(both))
        about = {"section": SECTION, "shape": shape, **asdict(work), "apart": apart}
        yield {**about, "contestants": measure(both, rounds)}


def shown(section: Mapping[str, Any]) -> str:
    """Lay a section out for a terminal."""
    title = "a step online, {shape}: {prompts} prompts of {prompt} tokens, {k} samples of {answer}"
    heads = "".join(f"{part:>20}" for part in ("a step", *PARTS))
    lines = [title.format(**section), f"{'':28}{heads}"]
    for name, row in section["contestants"].items():
        if "error" in row:
            lines.append(f"{name:28} {row['error']}")
            continue
        times = row.get("times", {})
        cells = [f"{row[x]:9.2f} s {times.get(x, 0):6.2f}x" for x in ("seconds", *PARTS)]
        lines.append(f"{name:28}{''.join(f'{cell:>20}' for cell in cells)}")
    return "\n".join(lines)


def options() -> argparse.ArgumentParser:
    """The command line's part that says what a step is."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--work",
        nargs=4,
        type=int,
        default=[2, 4, 64, 32],
        metavar=("PROMPTS", "K", "P", "A"),
        help="prompts of a step, samples of each, and the tokens of a prompt and of a sample",
    )
    return parser


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, parents=[options()]
    )
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=2, help="after one that warms up")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and keep the numbers."""
    arguments = parsed(given)
    training.quiet()
    torch.set_num_threads(1)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    work, facts = Work(*arguments.work), {"command": command("online.py", given), **machine()}
    for section in sections(arguments.shape, device, dtype, work, arguments.rounds):
        print(shown(section), flush=True)
        if arguments.json:
            write(
                arguments.json, {"facts": {**facts, "versions": versions()}, "sections": [section]}
            )


if __name__ == "__main__":
    main()
