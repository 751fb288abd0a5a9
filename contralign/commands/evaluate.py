"""Measure decoding methods side by side on a benchmark.

Answers are kept as they come: the same command goes on where it was interrupted. The output folder
gets report.md, report.html and report.json.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_config,
    add_fields,
    add_model,
    add_seed,
    check_amateur,
    load_model,
    made,
    needs_contrast,
    positive,
)
from .parser import Parser

if TYPE_CHECKING:
    from contralign.decoding import Decoding
    from contralign.eval import Ask

BENCHMARKS = {
    "chair": "objects in captions that are not in the picture; COCO pictures and ground truth",
    "counterfacts": "short facts that a context confirms or contradicts; comes with the package",
    "nq-synth": "Natural Questions under a context that contradicts the world; read from a file",
    "pope": "whether an object is in the picture; POPE's files of questions and COCO pictures",
    "scenes-amber": "captions of and questions about such pictures, scored as AMBER does",
    "scenes-chair": "captions of small pictures made by code, see contralign scenes",
    "scenes-mme": "existence, count, color and position in such pictures",
    "scenes-pope": "whether something is in such pictures, asked as POPE does",
}
METHODS = "greedy,sample,cutoff-only,cad,adacad"
PICTURE_METHODS = "greedy,sample,cutoff-only,vcd,m3id"
OF_TEXT = ("counterfacts", "nq-synth")


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

    methods = METHODS if benchmark in OF_TEXT else PICTURE_METHODS
    scores_files = hasattr(BENCHMARKS[benchmark], "read_answers")
    add_config(parser)
    add_model(parser, required=not scores_files)
    if scores_files:
        add_answers(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--output", type=Path, required=not scores_files, help="folder of the run")
    group.add_argument(
        "--methods", default=methods, help=f"see contralign methods; default: {methods}"
    )
    group.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="put greedy, sample and cutoff-only in front where they are missing",
    )
    group.add_argument("--limit", type=positive, help="ask the first rows only")
    group.add_argument("--batch-size", type=positive, default=8, help="rows a batch; default: 8")
    add_seed(group)
    group.add_argument(
        "--execution", default="auto", help="how branches run; see contralign.decoding.wrap"
    )
    add_fields(parser, BENCHMARKS[benchmark])


def add_answers(parser: Parser) -> None:
    """Add what scores a file instead of asking a model."""
    group = parser.add_argument_group("answers that are there already")
    group.add_argument("--answers", type=Path, metavar="FILE", help="score these, ask no model")
    group.add_argument(
        "--ignore-extra",
        action="store_true",
        help="leave out answers to what the benchmark doesn't ask, else an error",
    )


def run(args: argparse.Namespace) -> None:
    """Score a file of answers, or ask a model."""
    if getattr(args, "answers", None) is not None:
        score_file(args)
    elif args.model is None or args.output is None:
        raise ValueError(
            "eval asks a model and needs --model and --output, or scores a file and needs "
            "--answers."
        )
    else:
        ask_model(args)


def score_file(args: argparse.Namespace) -> None:
    """Print the measures of a file of answers."""
    from dataclasses import asdict

    from contralign.eval import BENCHMARKS, Scored
    from contralign.eval.jsonl import digest
    from contralign.eval.markdown import aligned, interval

    benchmark = made(BENCHMARKS[args.benchmark], args)
    found = benchmark.read_answers(args.answers, ignore_extra=args.ignore_extra)  # type: ignore[attr-defined]
    scored = [Scored(row, said, benchmark.score(row, said)) for row, said in found]
    rows = [
        [name, interval(known_only(asdict(one))), str(one.n)]
        for name, one in benchmark.summarise(scored).items()
    ]
    read_as = next(
        getattr(benchmark, name) for name in ("parser", "reading") if hasattr(benchmark, name)
    )
    print(
        f"# {benchmark.name}: {args.answers} (sha256 {digest(args.answers)})\n\n"
        f"{len(scored)} answers, read as by {read_as!r}, "
        f"{sum(one.is_unparsed(benchmark.metric) for one in scored)} unparsed; benchmark version "
        f"{benchmark.version}. Brackets are 95 % intervals.\n\n"
        f"{aligned((['metric', 'value', 'n'], rows))}"
    )


def known_only(estimate: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN by None, as a report does."""
    return {name: value if value == value else None for name, value in estimate.items()}


def ask_model(args: argparse.Namespace) -> None:
    """Run what is missing, write the report and print its tables.

    Raises:
        ValueError: Some method answered nothing; the report is there all the same.
    """
    if report := measure(args):
        tables, _, _ = (args.output / "report.md").read_text("utf-8").partition("## Reproduce")
        print(f"{tables}Report: {args.output / 'report.html'}")
        check_answered(report)


def check_answered(report: Mapping[str, Any]) -> None:
    """Refuse to call it a success where a method has an error on every row.

    Raises:
        ValueError: With the first one's first error.
    """
    for method in report["methods"]:
        if len(method["errors"]) == report["rows"]:
            raise ValueError(
                f"{method['label']} answered none of {report['rows']} rows; the first error: "
                f"{next(iter(method['errors'].values()))}"
            )


def measure(args: argparse.Namespace) -> dict[str, Any] | None:
    """Run what is missing and write the report.

    Returns:
        The report in the main process, None in others.
    """
    from accelerate import PartialState

    from contralign.decoding import parse_list
    from contralign.eval import BENCHMARKS, with_baselines, write_report
    from contralign.eval import run as answer
    from contralign.eval.plan import settings
    from contralign.folder import check_folder, check_free

    benchmark = made(BENCHMARKS[args.benchmark], args)
    decodings = parse_list(args.methods)
    check_amateur(*decodings)
    # A broken file, or an option that is missing, is better found before the model is loaded.
    check_suited(decodings, benchmark.name, benchmark.ask(benchmark.load()[0]))
    options = {name: getattr(args, name) for name in ("limit", "batch_size", "seed", "execution")}
    check_folder(args.output, settings(benchmark, {}, **options), as_options)
    if PartialState().is_main_process:
        check_free(args.output)
    result = answer(
        benchmark,
        load_model(args),
        with_baselines(decodings) if args.baselines else decodings,
        args.output,
        **options,
    )
    report = write_report(result, args.output, command=shlex.join(args.command))
    return report if PartialState().is_main_process else None


def check_suited(decodings: Sequence[Decoding], benchmark: str, ask: Ask) -> None:
    """Refuse methods that hold against what a benchmark's asks don't have.

    Raises:
        ValueError: Names the first one.
    """
    from contralign.decoding import Pictured

    for decoding in decodings:
        if isinstance(decoding.method, Pictured) and not ask.images:
            lacks = "is about pictures"
        elif needs_contrast(decoding) and ask.contrast is None:
            lacks = "holds the prompt against the same without its context"
        else:
            continue
        raise ValueError(
            f"{decoding.label} {lacks}, of which {benchmark} has none. Leave it out of --methods."
        )


def as_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Name a run's settings as on the command line; the model's weights are compared later."""
    benchmark = settings.get("benchmark")
    benchmark = benchmark if isinstance(benchmark, dict) else {"name": benchmark}
    known = {name: settings.get(name) for name in ("limit", "batch_size", "seed", "execution")}
    chosen = {**known, **benchmark.get("options", {})}
    return {
        "benchmark": f"{benchmark.get('name')}, version {benchmark.get('version')}",
        **{f"--{name.replace('_', '-')}": value for name, value in chosen.items()},
    }
