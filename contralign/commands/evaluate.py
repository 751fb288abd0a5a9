"""Measure decoding methods side by side on a benchmark.

Answers are kept as they come: the same command goes on where it was interrupted. The output folder
gets report.md, report.html and report.json.
"""

from __future__ import annotations

import argparse
import shlex
from functools import partial
from pathlib import Path

from .options import add_config, add_fields, add_model, load_model, made, positive
from .parser import Parser

BENCHMARKS = {
    "counterfacts": "short facts that a context confirms or contradicts; comes with the package",
    "nq-synth": "Natural Questions under a context that contradicts the world; read from a file",
}
METHODS = "greedy,sample,cutoff-only,cad,adacad"


def add_arguments(parser: Parser) -> None:
    """Add one command per benchmark."""
    benchmarks = parser.add_subparsers(metavar="BENCHMARK", dest="benchmark", required=True)
    for name, summary in BENCHMARKS.items():
        benchmarks.add_parser(
            name, help=summary, description=summary, fill=partial(add_run_arguments, benchmark=name)
        )


def add_run_arguments(parser: Parser, benchmark: str) -> None:
    """Add the options of a run and those of its benchmark."""
    from contralign.eval import BENCHMARKS

    add_config(parser)
    add_model(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--output", type=Path, required=True, help="folder of the run")
    group.add_argument(
        "--methods", default=METHODS, help=f"see contralign methods; default: {METHODS}"
    )
    group.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="put greedy, sample and cutoff-only in front where they are missing",
    )
    group.add_argument("--limit", type=positive, help="ask the first rows only")
    group.add_argument("--batch-size", type=positive, default=8, help="rows a batch; default: 8")
    group.add_argument("--seed", type=int, default=0, help="of all sampling; default: 0")
    group.add_argument(
        "--execution", default="auto", help="how branches run; see contralign.decoding.wrap"
    )
    add_fields(parser, BENCHMARKS[benchmark])


def run(args: argparse.Namespace) -> None:
    """Run what is missing, write the report and print its tables."""
    from accelerate import PartialState

    from contralign.decoding import parse_list
    from contralign.eval import BENCHMARKS, with_baselines, write_report
    from contralign.eval import run as answer

    benchmark = made(BENCHMARKS[args.benchmark], args)
    decodings = parse_list(args.methods)
    benchmark.load()  # a broken file is better found before the model is loaded
    result = answer(
        benchmark,
        load_model(args),
        with_baselines(decodings) if args.baselines else decodings,
        args.output,
        limit=args.limit,
        batch_size=args.batch_size,
        seed=args.seed,
        execution=args.execution,
    )
    write_report(result, args.output, command=shlex.join(args.command))
    if PartialState().is_main_process:
        tables, _, _ = (args.output / "report.md").read_text("utf-8").partition("## Reproduce")
        print(f"{tables}Report: {args.output / 'report.html'}")
