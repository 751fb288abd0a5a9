"""What a step of DPO costs: our DPOTrainer against TRL's, as ratios.

    python benchmarks/training.py                          # nearly no vocabulary, CPU
    python benchmarks/training.py --shape smollm2-135m     # a small model's true shape

gpu.py does the same at an 8B model's shape. Random weights. TRL takes part with its defaults
(checkpointing), at its best settings (without), and with precomputed reference log-probs, which
only our cached ones may be compared with: a single epoch doesn't earn either back. Nothing is timed
before it has passed the gate of gradients.py: in float32 each case on the model itself, in half
precision two layers of it. On a CPU, time is process time on one thread, the best of all rounds,
and TRL takes its GPU path (see training_contest.py). Real tokens are those of both sequences of
each pair, without padding, for everybody. In a narrow model attention weighs more than in a large
one, and padding is paid in it twice over: flops.py counts the same cases at a large one's shape.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import completions
import datasets
import torch
import transformers
from cases import group_cases, options, pair_cases, titled
from clock import Results, command, write
from completions import APART, PACKED, Group
from gradients import check_exact, check_half, compared, measure
from preferences import Case, Row, llava_processor, words_tokenizer
from shapes import SHAPES, random_llava, random_model
from training_contest import (
    BEST,
    DEFAULTS,
    PRECOMPUTED,
    Trainers,
    contestants,
    naive_step,
    trainers,
)

from contralign.align.batch import Batch
from contralign.eval.machine import machine, versions

BASES = {DEFAULTS: "x defaults", BEST: "x best", PRECOMPUTED: "x precomp."}
PAIRS, COMPLETIONS = SECTIONS = ("pairs", "completions")
SMALL = Case(pairs=2, prompt=24, answer=12, ragged=True, batches=2)
SMALL_GROUP = Group(k=3, prompt=24, answer=12)


@dataclass(frozen=True)
class Workbench:
    """Where models are made.

    Attributes:
        shape: Of the model.
        device: It lives on.
        dtype: Of its weights.
        folder: For what trainers write.
    """

    shape: str
    device: torch.device
    dtype: torch.dtype
    folder: Path

    @property
    def vocabulary(self) -> int:
        return SHAPES[self.shape]["vocab_size"]

    def build(
        self, images: bool, dtype: torch.dtype | None = None, layers: int | None = None
    ) -> Trainers:
        """Make a model and put it into both trainers."""
        made = random_llava if images else random_model
        model = made(self.shape, dtype or self.dtype, self.device, layers)
        known = llava_processor(self.shape) if images else words_tokenizer(self.vocabulary)
        return trainers(model, known, Path(tempfile.mkdtemp(dir=self.folder)))

    def rows(self, case: Case) -> list[list[Row]]:
        return case.micro_batches(self.vocabulary)


def check_small(bench: Workbench, images: bool) -> Results:
    """Let all pass the gate on two layers: exactly in float32, and in half precision.

    Raises:
        SystemExit: One computes something else, or errs more than TRL.
    """
    rows = bench.rows(replace(SMALL, images=images))
    both = bench.build(images, torch.float32, layers=2)
    check_exact(both.model, partial(naive_step, both, rows), contestants(both, rows))
    if not images:
        check_group(both.model, SMALL_GROUP.batch(bench.vocabulary))
    both = bench.build(images, layers=2)
    entries = contestants(both, rows)
    return check_half(both.model, partial(naive_step, both, rows), entries, BEST)


def check_group(model: Any, batch: Batch) -> Results:
    """Let both ways to score k completions pass the gate."""
    naive = partial(completions.naive_step, model, batch)
    return check_exact(model, naive, completions.contestants(model, batch))


def measured(both: Trainers, case: Case, rows: Any, rounds: int, gate: Results) -> dict[str, Any]:
    """Let the contestants through the gate if they haven't passed it yet, then time them."""
    entries = contestants(both, rows)
    gate = gate or check_exact(both.model, partial(naive_step, both, rows), entries)
    results = measure(both.model, entries, rounds)
    real = sum(both.theirs.data_collator(batch)["attention_mask"].sum().item() for batch in rows)
    for name, row in results.items():
        if "error" not in row:
            row.update(gate[name], tokens_per_second=real / row["seconds"])
    about = {"section": PAIRS, **asdict(case), "real_tokens": real}
    return {**about, "contestants": compared(results, BASES)}


def grouped(model: Any, batch: Batch, rounds: int, passed: bool) -> Results:
    """Time one packed row of k completions against k sequences."""
    gate = {} if passed else check_group(model, batch)
    results = measure(model, completions.contestants(model, batch), rounds)
    return compared({name: {**gate.get(name, {}), **x} for name, x in results.items()}, [APART])


def sections(arguments: argparse.Namespace, bench: Workbench) -> Iterator[dict[str, Any]]:
    """Measure pairs of text, then more completions of a prompt, then pairs with images."""
    # Or a GPU rounds float32 in the tower's convolution, which the gate would see.
    torch.backends.cudnn.allow_tf32 = False
    exact = bench.dtype == torch.float32
    for kind in arguments.kinds:
        images = kind == "vision"
        gate = {} if exact else check_small(bench, images)
        both = bench.build(images)
        for case in pair_cases(arguments, kind):
            yield measured(both, case, bench.rows(case), arguments.rounds, gate)
        for group in () if images else group_cases(arguments):
            batch = group.batch(bench.vocabulary)
            results = grouped(both.model, batch, arguments.rounds, passed=not exact)
            about = {"section": COMPLETIONS, **asdict(group), "prediction": group.prediction}
            yield {**about, "contestants": results}
        del both
        gc.collect()  # trainers and their models hold each other


def table(results: Results) -> str:
    """Lay the results out for a terminal."""
    bases = [base for base in BASES if base in results]
    heads = "".join(f" {BASES[base]:>10}" for base in bases)
    lines = [
        f"{'':24} {'a step':>11}{heads} {'real tok/s':>10} {'forwarded':>9} {'images':>6} "
        f"{'peak':>9}"
    ]
    for name, row in results.items():
        if "error" in row:
            lines.append(f"{name:24} {row['error']}")
            continue
        times = [f"{row['times'][base]:9.2f}x" if base in row["times"] else "" for base in bases]
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f} MiB"
        lines.append(
            f"{name:24} {1000 * row['seconds']:8.1f} ms{''.join(f' {x:>10}' for x in times)} "
            f"{row['tokens_per_second']:10.0f} {row['tokens']:9} {row['images']:6} {peak:>9}"
        )
    return "\n".join(lines)


def shown(section: Mapping[str, Any]) -> str:
    """Lay a section out for a terminal."""
    results = section["contestants"]
    if section["section"] == PAIRS:
        return f"{titled(section)}, {section['real_tokens']} real tokens\n{table(results)}"
    title = "{k} completions of {answer} tokens, one prompt of {prompt}".format(**section)
    if failed := [f"{name}: {x['error']}" for name, x in results.items() if "error" in x]:
        return f"{title}: {'; '.join(failed)}"
    packed, apart = (1000 * results[name]["seconds"] for name in (PACKED, APART))
    return (
        f"{title}: {PACKED} {packed:.1f} ms, {APART} {apart:.1f} ms, "
        f"{results[PACKED]['times'][APART]:.2f}x (by positions {section['prediction']:.2f}x)"
    )


def quiet() -> None:
    """Switch off what trainers print, and what TRL is told for calling by old names."""
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", ".*is deprecated", FutureWarning)
    datasets.disable_progress_bars()


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, parents=[options(240)]
    )
    parser.add_argument("--shape", choices=SHAPES, default="body")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3, help="after one that warms up")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Measure all that was asked for, and keep the numbers after every section anew."""
    arguments = parsed(given)
    quiet()
    torch.set_num_threads(1)
    facts = {"command": command("training.py", given), **machine(), "versions": versions()}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
        bench = Workbench(arguments.shape, device, dtype, Path(folder))
        for section in sections(arguments, bench):
            print(f"\n{shown(section)}", flush=True)
            found.append(section)
            if arguments.json:
                write(arguments.json, {"facts": facts, "sections": found})


if __name__ == "__main__":
    main()
