"""Which preference pairs are measured, in all scripts the same."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from completions import Group
from preferences import Case


def options(length: int) -> argparse.ArgumentParser:
    """The command line's part of it.

    Args:
        length: The default of `--length`.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--kinds", nargs="+", choices=("text", "vision"), default=["text", "vision"]
    )
    parser.add_argument(
        "--ratios", nargs="+", type=ratio, default=[1.0, 4.0, 10.0], help="prompt:answer"
    )
    parser.add_argument(
        "--spreads", nargs="+", choices=("equal", "ragged"), default=["equal", "ragged"]
    )
    parser.add_argument("--pairs", nargs="+", type=int, default=[1, 4], help="in a micro-batch")
    parser.add_argument(
        "--length", type=int, default=length, help="median tokens of a prompt with its answer"
    )
    parser.add_argument("--draws", type=int, default=2, help="micro-batches of ragged lengths")
    parser.add_argument(
        "--groups", nargs="*", type=int, default=[4, 8], help="completions of one prompt"
    )
    return parser


def ratio(given: str) -> float:
    """Read `prompt:answer`."""
    prompt, answer = map(float, given.split(":"))
    return prompt / answer


def split(length: int, times: float) -> tuple[int, int]:
    """Tokens of a prompt that is so many times its answer, and of the answer."""
    answer = round(length / (1 + times))
    return length - answer, answer


def pair_cases(arguments: argparse.Namespace, kind: str) -> Iterator[Case]:
    """All combinations that were asked for; ragged ones on more draws."""
    given = product(arguments.ratios, arguments.spreads, arguments.pairs)
    for times, spread, pairs in given:
        prompt, answer = split(arguments.length, times)
        ragged = spread == "ragged"
        batches = arguments.draws if ragged else 1
        yield Case(pairs, prompt, answer, ragged, images=kind == "vision", batches=batches)


def group_cases(arguments: argparse.Namespace) -> Iterator[Group]:
    for times, k in product(arguments.ratios, arguments.groups):
        yield Group(k, *split(arguments.length, times))


def titled(row: Mapping[str, Any]) -> str:
    """Say what pairs these are."""
    kind = "an image and text" if row["images"] else "text"
    spread = "log-normal" if row["ragged"] else "equal"
    return (
        f"{kind}, {row['batches']} x {row['pairs']} pairs, prompt:answer {row['prompt']}:"
        f"{row['answer']}, {spread} lengths"
    )
