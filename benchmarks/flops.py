"""Floating-point operations of a DPO step at a true shape, counted without a GPU and its weights.

    python benchmarks/flops.py                       # Llama-3-8B, in about two minutes

The cases are training.py's. Of equal lengths a pair of a prompt of P tokens with two answers of R
is two rows of P + R for TRL, and for us one of P + 2R - 2. The code that packs rows and attends in
them runs here, on the meta device (see operations.py). On CUDA the head is TRL's for us too. An
image goes through LLaVA-1.5's tower, in TRL once for each answer. `linear_times` are the ratios
without attention.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import group_cases, options, pair_cases, titled
from clock import Results, command, write
from completions import Group
from gradients import compared
from operations import WAYS, body, frozen_head, head_units, image_tokens, tower, trl_head
from preferences import Case
from shapes import SHAPES
from training_contest import BEST, CACHED, DEFAULTS, OUR_DEFAULTS, OURS, PRECOMPUTED

from contralign.align.batch import Batch
from contralign.eval.machine import versions

# How each lays its rows out, what it does of its layers' work, and whether the reference is live.
DOES = {
    DEFAULTS: ("padded", "checkpointed", True),
    BEST: ("padded", "policy", True),
    PRECOMPUTED: ("padded", "policy", False),
    OUR_DEFAULTS: ("packed", "checkpointed", True),
    OURS: ("packed", "policy", True),
    CACHED: ("packed", "policy", False),
}


def batches(shape: str, case: Case) -> list[Batch]:
    """The case's micro-batches, an image's tokens in front of each prompt."""
    front = [0] * image_tokens(shape) if case.images else []
    return [
        Batch(
            [[*front, *[0] * prompt] for prompt, *_ in rows],
            [[[0] * chosen, [0] * rejected] for _, chosen, rejected in rows],
        )
        for rows in case.lengths()
    ]


def steps(shape: str, case: Case) -> Results:
    """All contestants' operations: all of them, and without attention."""
    drawn = batches(shape, case)
    ways = {way: body(shape, drawn, way) for way in WAYS}
    sizes = SHAPES[shape]
    answers = sum(len(answer) for batch in drawn for answer in batch.flat)
    unit = 2 * answers * sizes["vocab_size"] * sizes["hidden_size"]
    head = head_units(trl_head)
    image = tower(shape) if case.images else {"all": 0, "linear": 0}

    def total(way: str, part: str, live: bool) -> dict[str, int]:
        images = case.pairs * case.batches * (1 + live) * (2 if way == "padded" else 1)
        heads = unit * (head["step"] + live * head["forward"])
        return {
            kind: round(
                ways[way][part][kind]
                + live * ways[way]["reference"][kind]
                + images * image[kind]
                + heads
            )
            for kind in ("all", "linear")
        }

    refused = {PRECOMPUTED} if case.images else set()  # by TRL
    return {name: total(*does) for name, does in DOES.items() if name not in refused}


def counted(shape: str, case: Case) -> dict[str, Any]:
    """Count a case and compare."""
    found = steps(shape, case)
    linear = compared({name: dict(row) for name, row in found.items()}, [BEST, DEFAULTS], "linear")
    for name, row in compared(found, [BEST, DEFAULTS], "all").items():
        row["linear_times"] = linear[name]["times"]
    return {**asdict(case), "contestants": found}


def grouped(shape: str, group: Group) -> dict[str, Any]:
    """Count the layers' operations for k completions of a prompt, the policy's only."""
    batch = group.batch(SHAPES[shape]["vocab_size"])
    apart, together = (body(shape, [batch], way)["policy"]["all"] for way in WAYS)
    return {**asdict(group), "prediction": group.prediction, "times": apart / together}


def table(row: Mapping[str, Any]) -> str:
    """Lay a case out for a terminal."""
    lines = [f"{'':24} {'a step':>14} {'x best':>7} {'x defaults':>10}   without attention"]
    for name, one in row["contestants"].items():
        cells = [
            f"{one[kind][BEST]:6.2f}x {one[kind][DEFAULTS]:9.2f}x"
            for kind in ("times", "linear_times")
        ]
        lines.append(f"{name:24} {one['all'] / 1e12:8.1f} TFLOP {cells[0]}  {cells[1]}")
    return "\n".join(lines)


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, parents=[options(2048)]
    )
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Count all that was asked for, and keep the numbers if asked to."""
    arguments = parsed(given)
    pairs, groups = [], []
    for kind in arguments.kinds:
        for case in pair_cases(arguments, kind):
            pairs.append(counted(arguments.shape, case))
            print(f"\n{titled(pairs[-1])}\n{table(pairs[-1])}", flush=True)
    for group in group_cases(arguments):
        groups.append(grouped(arguments.shape, group))
        print(
            "\n{k} completions of {answer} tokens, one prompt of {prompt}: {times:.2f}x (by "
            "positions {prediction:.2f}x)".format(**groups[-1]),
            flush=True,
        )
    if arguments.json:
        facts = {"command": command("flops.py", given), "versions": versions()}
        head = {"trl": head_units(trl_head), "frozen": head_units(frozen_head)}
        report = {"facts": facts, "shape": SHAPES[arguments.shape], "head": head}
        write(arguments.json, {**report, "pairs": pairs, "completions": groups})


if __name__ == "__main__":
    main()
