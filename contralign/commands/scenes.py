"""The controlled world: write its pictures and questions, or train its small model."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_config, add_fields, made, positive, quiet_unless_watched
from .parser import Parser

if TYPE_CHECKING:
    from contralign.eval.scenes.training import Progress

MAKE = """Write scenes as files.

Pictures, and from them POPE, CHAIR, MME and AMBER in their own formats, and preference pairs in
TRL's; contralign.eval.scenes.files says what lies where.
"""
TRAIN = """Train a small model of the LLaVA architecture on scenes.

The folder gets what from_pretrained loads, with a card; --threads changes rounding, and with it the
weights a little.
"""


def add_arguments(parser: Parser) -> None:
    """Add what can be done with scenes."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    summary = "write pictures, questions and preference pairs"
    actions.add_parser("make", help=summary, description=MAKE, fill=add_make_arguments)
    summary = "train the small model on them"
    actions.add_parser("train", help=summary, description=TRAIN, fill=add_train_arguments)


def add_make_arguments(parser: Parser) -> None:
    """Add how many scenes, of which world, how well seen."""
    from contralign.eval.scenes import Optics, World

    add_config(parser)
    _add_output(parser)
    parser.add_argument(
        "--train", type=positive, default=1000, help="training scenes; default: 1000"
    )
    parser.add_argument(
        "--test", type=positive, default=200, help="scenes of either test split; default: 200"
    )
    add_fields(parser, World, "world")
    add_fields(parser, Optics, "optics")


def add_train_arguments(parser: Parser) -> None:
    """Add everything that a model is made from."""
    from contralign.eval.scenes.training import Recipe

    add_config(parser)
    _add_output(parser)
    parser.add_argument("--threads", type=positive, default=2, help="that compute; default: 2")
    add_fields(parser, Recipe, "training")
    for name, part in _parts().items():
        add_fields(parser, part, name)


def run(args: argparse.Namespace) -> None:
    """Do what was chosen."""
    {"make": make, "train": train}[args.action](args)


def make(args: argparse.Namespace) -> None:
    """Write the files and say where they are."""
    from contralign.eval.scenes import Optics, World
    from contralign.eval.scenes.files import make as write

    world, optics = made(World, args), made(Optics, args)
    write(world, optics, args.out.expanduser(), train=args.train, test=args.test)
    print(f"Scenes: {args.out}")


def train(args: argparse.Namespace) -> None:
    """Train, save, and say where the model is."""
    import torch

    from contralign.eval.scenes.card import save
    from contralign.eval.scenes.training import Recipe
    from contralign.eval.scenes.training import train as teach

    folder = args.out.expanduser()
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"--out must be new or empty, got {folder}, which holds files.")
    parts = {name: made(part, args) for name, part in _parts().items()}
    recipe = made(Recipe, argparse.Namespace(**{**vars(args), **parts}))
    quiet_unless_watched()
    torch.set_num_threads(args.threads)
    model, processor = teach(recipe, told())
    save(model, processor, recipe, folder, shlex.join(args.command))
    print(f"Model: {args.out}")


def told(every: int = 50) -> Progress:
    """Make what prints the mean loss to stderr now and then."""
    losses: list[float] = []

    def tell(stage: str, step: int, loss: float) -> None:
        losses.append(loss)
        if step % every == 0:
            mean = sum(losses[-every:]) / every
            print(f"{stage}, step {step}: loss {mean:.3f}", file=sys.stderr, flush=True)

    return tell


def _parts() -> Mapping[str, type]:
    from contralign.eval.scenes import Optics, World
    from contralign.eval.scenes.lessons import Syllabus
    from contralign.eval.scenes.network import Size

    return {"size": Size, "world": World, "optics": Optics, "syllabus": Syllabus}


def _add_output(parser: Parser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder")
