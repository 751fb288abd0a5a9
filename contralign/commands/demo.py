"""See decoding methods at work: on pictures made by code, then on facts that a context contradicts.

The pictures are answered by the small model in the package: nothing is downloaded. The facts are
answered by SmolLM2-135M-Instruct, fetched and converted the first time, or by the model that
--model names; --no-text leaves them out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import evaluate
from .options import SHIPPED, positive, quiet_unless_watched
from .parser import Parser

METHODS = "greedy,cutoff-only,cad,adacad"
PICTURE_METHODS = (
    "greedy,vcd,ritual,vdd,m3id,sample,cutoff-only@sample,vcd@sample,ritual@sample,vdd@sample"
)
WHY = """\
Scenes are pictures made by code, and the model that sees them badly guesses what usually comes
together; in counter-bias scenes such guesses are wrong. cutoff-only under greedy search says what
greedy says, so it is sampled here: what a method@sample has over cutoff-only@sample is owed to its
contrast, not to the cutoff it comes with. m3id's first token has no contrast, so on questions for
yes or no it says what greedy says."""
CAPTIONS = 3
"""Captions for each picture that is asked about: they are cheap."""
DETAILS: Mapping[str, Sequence[str]] = {
    "scenes-pope": (
        *("accuracy/random", "accuracy/popular", "accuracy/adversarial", "accuracy/counter-bias"),
        "yes_ratio",
    ),
    "scenes-chair": ("chairi", "recall", "precision"),
    "counterfacts": (),
}
"""What is shown beside the headline."""


def add_arguments(parser: Parser) -> None:
    """Add the few choices that a demonstration has."""
    parser.add_argument("--model", help="of the facts: hub id or folder; default: SmolLM2-135M")
    parser.add_argument("--limit", type=positive, default=16, help="facts to ask; default: 16")
    parser.add_argument(
        "--pictures",
        type=positive,
        default=60,
        help="to ask about, thrice as many to caption; default: 60",
    )
    parser.add_argument(
        "--text",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask about facts too; default: yes",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/demo"),
        help="folder of all runs; default: %(default)s",
    )


def run(args: argparse.Namespace) -> None:
    """Print each command of `contralign eval` that this stands for, run it and show the result."""
    print(WHY)
    for words in scenes(args.pictures, args.output):
        _show(words)
    if args.text:
        _show(facts(args.model or _own_model(), args.limit, args.output))


def scenes(pictures: int, output: Path) -> Iterator[list[str]]:
    """The words of the runs on pictures."""
    captions = CAPTIONS * pictures
    asked: Mapping[str, Sequence[str]] = {
        f"scenes-pope-{pictures}": ("scenes-pope", "--pictures", str(pictures)),
        **{
            f"scenes-chair-{split}-{captions}": (
                *("scenes-chair", "--split", split),
                *("--pictures", str(captions)),
            )
            for split in ("in-bias", "counter-bias")
        },
    }
    for folder, words in asked.items():
        yield [
            *words,
            *("--model", SHIPPED),
            *("--methods", PICTURE_METHODS),
            *("--batch-size", "32"),
            *("--output", str(output / folder)),
        ]


def facts(model: str, limit: int, output: Path) -> list[str]:
    """The words of the run on facts."""
    return [
        "counterfacts",
        *("--model", model),
        *("--methods", METHODS),
        *("--contexts", "conflict"),
        *("--limit", str(limit)),
        *("--max-new-tokens", "16"),
        *("--output", str(output / f"{Path(model).name}-{limit}")),
    ]


def _show(words: Sequence[str]) -> None:
    command = ["contralign", "eval", *words]
    print(f"$ {shlex.join(command)}", file=sys.stderr)
    chosen = Parser("contralign eval", fill=evaluate.add_arguments).parse_args(list(words))
    chosen.command = command
    report = evaluate.measure(chosen)
    if report:
        print(f"{shown(report)}\nReport: {chosen.output / 'report.html'}")
        evaluate.check_answered(report)


def shown(report: Mapping[str, Any]) -> str:
    """Write a report's headline, and what else says most, for a terminal."""
    from contralign.eval.markdown import aligned, headline_table, interval, notes, summary_line

    names = DETAILS[report["benchmark"]]
    rows = [
        [one["label"], *(interval(one["estimates"][name]) for name in names)]
        for one in report["methods"]
    ]
    return "\n\n".join(
        [
            f"\n# {report['benchmark']}: {report['metric']}",
            summary_line(report),
            aligned(headline_table(report)),
            *([aligned((["method", *names], rows))] if names else []),
            *notes(report),
        ]
    )


def _own_model() -> str:
    from contralign.smollm2 import smollm2

    quiet_unless_watched()
    return str(smollm2())
