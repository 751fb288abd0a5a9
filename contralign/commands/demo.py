"""Compare decoding methods on pictures and on text.

First Scenes: a small vision-language model that comes with the package is asked what is in pictures
made by code, and describes them. Then SmolLM2-135M-Instruct, fetched and converted the first time,
or the model that --model names, answers about facts that a context contradicts.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from . import evaluate
from .options import SCENES, positive, quiet_unless_watched
from .parser import Parser

SEEING = "greedy,sample,cutoff-only,vcd,ritual,vdd,m3id"
READING = "greedy,cutoff-only,cad,adacad"


def add_arguments(parser: Parser) -> None:
    """Add the few choices that a demonstration has."""
    parser.add_argument(
        "--text",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on to the text; default: yes",
    )
    parser.add_argument("--model", help="hub id or folder, for the text; default: SmolLM2-135M")
    parser.add_argument("--limit", type=positive, default=16, help="facts to ask; default: 16")
    parser.add_argument(
        "--pictures", type=positive, default=40, help="pictures of each kind; default: 40"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="folder; default: runs/demo"
    )


def run(args: argparse.Namespace) -> None:
    """Print the commands of `contralign eval` that this stands for, and run each."""
    for benchmark in ("scenes-pope", "scenes-chair"):
        _evaluate(
            benchmark,
            *("--model", SCENES),
            *("--methods", SEEING),
            *("--pictures", str(args.pictures)),
            *("--batch-size", "32"),
            *("--output", str(args.output / f"{benchmark}-{args.pictures}")),
        )
    if args.text:
        model = args.model or _own_model()
        _evaluate(
            "counterfacts",
            *("--model", model),
            *("--methods", READING),
            *("--contexts", "conflict"),
            *("--limit", str(args.limit)),
            *("--max-new-tokens", "16"),
            *("--output", str(args.output / f"{Path(model).name}-{args.limit}")),
        )


def _evaluate(*words: str) -> None:
    command = ["contralign", "eval", *words]
    print(f"$ {shlex.join(command)}", file=sys.stderr)
    chosen = Parser("contralign eval", fill=evaluate.add_arguments).parse_args(words)
    chosen.command = command
    evaluate.run(chosen)


def _own_model() -> str:
    from contralign.smollm2 import smollm2

    quiet_unless_watched()
    return str(smollm2())
