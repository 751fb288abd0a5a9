"""List the decoding methods as --methods takes them: NAME[:key=value;key=value][@SEARCH].

SEARCH is greedy (the default), sample or beamN; `greedy` and `sample` alone are short for
plain@greedy and plain@sample.
"""

from __future__ import annotations

import argparse
import inspect
import json
from typing import TYPE_CHECKING, Any

from .options import attributes

if TYPE_CHECKING:
    from contralign.decoding import Method

    from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the choice of format."""
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def run(args: argparse.Namespace) -> None:
    """Print the table of methods."""
    from contralign.decoding import METHODS

    described = [describe(name, kind) for name, kind in METHODS.items()]
    if args.json:
        print(json.dumps(described, indent=2))
    else:
        print("\n\n".join(map(_paragraph, described)))


def describe(name: str, kind: type[Method]) -> dict[str, Any]:
    """Gather what a method's class says; defaults are written as `parse` reads them."""
    from contralign.decoding import Decoding

    _, _, listed = str(Decoding(name, kind())).partition("@")[0].partition(":")
    defaults = dict(pair.split("=", 1) for pair in listed.split(";") if pair)
    texts = attributes(kind)
    return {
        "name": name,
        "summary": inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " "),
        "paper": kind.paper,
        "parameters": [
            {"name": key, "default": default, "meaning": texts[key]}
            for key, default in defaults.items()
        ],
    }


def _paragraph(method: dict[str, Any]) -> str:
    lines = [f"{method['name']}: {method['summary']}", f"  {method['paper']}"]
    lines += [
        f"  {parameter['name']}={parameter['default']}: {parameter['meaning']}"
        for parameter in method["parameters"]
    ]
    return "\n".join(lines)
