"""Compare plain decoding with CAD and AdaCAD on facts that a context contradicts.

The model is SmolLM2-135M-Instruct, fetched and converted the first time, or the one --model names.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from . import evaluate
from .options import positive, quiet_unless_watched
from .parser import Parser

METHODS = "greedy,cutoff-only,cad,adacad"


def add_arguments(parser: Parser) -> None:
    """Add the few choices that a demonstration has."""
    parser.add_argument("--model", help="hub id or folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--limit", type=positive, default=16, help="facts to ask; default: 16")
    parser.add_argument("--output", help="folder of the run; default: runs/demo/MODEL-LIMIT")


def run(args: argparse.Namespace) -> None:
    """Print the command of `contralign eval` that this stands for, and run it."""
    model = args.model or _own_model()
    output = args.output or f"runs/demo/{Path(model).name}-{args.limit}"
    words = [
        "counterfacts",
        *("--model", model),
        *("--methods", METHODS),
        *("--contexts", "conflict"),
        *("--limit", str(args.limit)),
        *("--max-new-tokens", "16"),
        *("--output", output),
    ]
    command = ["contralign", "eval", *words]
    print(f"$ {shlex.join(command)}", file=sys.stderr)
    chosen = Parser("contralign eval", fill=evaluate.add_arguments).parse_args(words)
    chosen.command = command
    evaluate.run(chosen)


def _own_model() -> str:
    from contralign.smollm2 import smollm2

    quiet_unless_watched()
    return str(smollm2())
