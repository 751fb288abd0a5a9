"""Check preference data, score it, or make it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import data_pairs, data_score
from .options import SHIPPED, add_data, positive, quiet_unless_watched, resolved
from .parser import Parser

if TYPE_CHECKING:
    from contralign.align.data import Report

CHECK = """Check preference data as training does it.

The exit code is 0 when every row can be trained on, and 1 when some can't.
"""
METHODS = ("dpo", "cpl", "copg", "hypo")
ONLINE = ("copg",)
LONGEST = 128  # tokens of a sample where nothing is said, as in training
WITHOUT_MODEL = (
    "Not checked without --model: chat template, lengths, BOS and EOS, and where completions start."
)
WITHOUT_LENGTH = "Not checked without --max-length: prompts that fill it, completions that are cut."


def add_arguments(parser: Parser) -> None:
    """Add what can be done with data."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    summary = "say what is wrong with a file's rows"
    added = actions.add_parser("check", help=summary, description=CHECK, fill=add_check_arguments)
    added.set_defaults(act=check)
    for name, module, summary in (
        ("score", data_score, "write a reward's scores next to the data"),
        ("pairs", data_pairs, "make pairs of a model's own answers"),
    ):
        added = actions.add_parser(
            name, help=summary, description=module.__doc__, fill=module.add_arguments
        )
        added.set_defaults(act=module.run)


def add_check_arguments(parser: Parser) -> None:
    """Add which data, and the model that it's for."""
    parser.add_argument("data", metavar="FILE", help="file, folder or hub id; see contralign train")
    add_data(parser)
    parser.add_argument(
        "--model",
        help=f"hub id, folder or {SHIPPED}; only its tokenizer or processor is loaded",
    )
    parser.add_argument(
        "--max-length", type=positive, help="tokens of prompt and completion that training allows"
    )
    parser.add_argument(
        "--method",
        default="dpo",
        choices=METHODS,
        help="of contralign train, which says what a row must have; default: dpo",
    )
    parser.add_argument(
        "--online",
        action="store_true",
        help="a row is a prompt, to sample for; completions beside it aren't read",
    )
    parser.add_argument(
        "--max-completion-length",
        type=positive,
        help="tokens of the longest sample, with --online or hypo; default: 128, as in training",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> None:
    """Do what was chosen."""
    args.act(args)


def check(args: argparse.Namespace) -> None:
    """Print the report; exit with 1 if there is a row that can't be trained on."""
    _check_options(args)
    from datasets import disable_progress_bars

    from contralign.align.data import NEEDS, PROMPTS, load
    from contralign.align.data import check as check_rows

    quiet_unless_watched()
    if not sys.stderr.isatty():
        disable_progress_bars()
    processor = None if args.model is None else _processor(args.model)
    rows = load(args.data, name=args.name, split=args.split)
    needs = PROMPTS if args.online else NEEDS[args.method]
    if args.online or args.method == "hypo":
        needs = replace(needs, room=args.max_completion_length or LONGEST)
    report = check_rows(rows, processor, args.max_length, needs)
    print(_as_json(args, report) if args.json else _as_text(args, report))
    if report.unusable:
        sys.exit(1)


def _check_options(args: argparse.Namespace) -> None:
    if args.max_length is not None and args.model is None:
        raise ValueError(
            "--max-length counts a model's tokens, got no --model. Name the model to train."
        )
    if args.online and args.method not in ONLINE:
        raise ValueError(
            f"--online is of --method {', '.join(ONLINE)}, got {args.method}. Leave out --online, "
            "or name that method."
        )
    drawn = args.online or args.method == "hypo"
    if args.max_completion_length is not None and not (drawn and args.max_length):
        raise ValueError(
            "--max-completion-length is what --max-length leaves to a sample, got it without "
            f"{'--max-length' if drawn else '--online'}. Add that, or leave it out."
        )


def _processor(model: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(resolved(model))


def _as_json(args: argparse.Namespace, report: Report) -> str:
    asked = {
        name: getattr(args, name)
        for name in ("data", "split", "model", "max_length", "method", "online")
    }
    return json.dumps({**asked, **report.as_dict()}, indent=2, ensure_ascii=False)


def _as_text(args: argparse.Namespace, report: Report) -> str:
    text = f"{args.data}, {args.split}: {report}"
    if args.model is None:
        return f"{text}\n\n{WITHOUT_MODEL}"
    return text if args.max_length is not None else f"{text}\n\n{WITHOUT_LENGTH}"
