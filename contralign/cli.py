"""The command line: `contralign COMMAND ...`.

Each command is a module of `contralign.commands` with two functions: `add_arguments(parser)` and
`run(args)`. Libraries that take seconds to import are imported inside `run`.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from contralign import __version__
from contralign.commands import (
    coco,
    data,
    demo,
    evaluate,
    generate,
    merge,
    methods,
    scenes,
    train,
)
from contralign.commands.parser import Parser, complain

COMMANDS = {
    "generate": (generate, "answer one question with any decoding method"),
    "eval": (evaluate, "measure decoding methods side by side on a benchmark"),
    "methods": (methods, "list the decoding methods, their parameters and papers"),
    "train": (train, "train a model on preferences"),
    "merge": (merge, "merge an adapter into its base model, as a plain model folder"),
    "data": (data, "check preference data, score it, or make it"),
    "coco": (coco, "make CHAIR's ground truth of COCO's annotations"),
    "scenes": (scenes, "write the controlled world's pictures, or train its small model"),
    "demo": (demo, "compare four methods on a small model in a few minutes"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments; None takes this process's.

    Returns:
        The exit code: 0, 1 when the system failed, 2 when what was asked for is wrong, 130 when
        interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # peft 0.21 reads a name that transformers 5.23 has renamed.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    try:
        args = build_parser().parse_args(words)
        args.command = ["contralign", *words]
        args.run(args)
    except KeyboardInterrupt:
        return complain("interrupted. " + _after_interrupt(words), 130)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _raise_if_debugging(error)
        return complain(_told(error), 1)
    except ValueError as error:
        _raise_if_debugging(error)
        return complain(str(error), 2)
    return 0


def _told(error: OSError) -> str:
    if not (error.strerror and error.filename):
        return str(error) or type(error).__name__
    way_out = " Check its spelling." if isinstance(error, FileNotFoundError) else ""
    return f"{error.filename}: {error.strerror}.{way_out}"


def build_parser() -> Parser:
    """Build the tree of commands; each fills in its arguments when it's used."""
    parser = Parser("contralign", description=sys.modules["contralign"].__doc__)
    parser.add_argument("--version", action="version", version=f"contralign {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, fill=module.add_arguments
        )
        command.set_defaults(run=module.run)
    return parser


def _after_interrupt(words: Sequence[str]) -> str:
    if words[:1] in (["eval"], ["demo"]) or words[:2] in (["data", "score"], ["data", "pairs"]):
        return "Run the same command again to go on: every finished batch is kept."
    if words and words[0] == "train":
        return (
            "Go on from the last whole checkpoint, if there is one: --resume_from_checkpoint true."
        )
    return "Nothing was kept."


def _raise_if_debugging(error: Exception) -> None:
    if os.environ.get("CONTRALIGN_DEBUG"):
        raise error
