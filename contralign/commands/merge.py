"""Merge an adapter into its base model.

The output folder is a plain model with its tokenizer or processor, which needs no PEFT. The adapter
and the base stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import DTYPES, add_config, quiet_unless_watched
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add what to merge and where to."""
    add_config(parser)
    parser.add_argument("--adapter", type=Path, required=True, help="folder that training wrote")
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="of the weights; default: as the base's"
    )


def run(args: argparse.Namespace) -> None:
    """Merge and say where the model is."""
    from contralign.align.merge import merge

    quiet_unless_watched()
    merge(args.adapter.expanduser(), args.output.expanduser(), dtype=args.dtype)
    print(f"Merged model: {args.output}")
