"""Make CHAIR's ground truth of COCO's annotations: which objects are in which picture.

COCO's 2014 annotations are instances_train2014.json, instances_val2014.json and the captions_ files
of the same splits; those of the pictures at hand are enough.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the annotations and where the objects go."""
    parser.add_argument("--instances", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--captions", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    parser.add_argument(
        "--reading",
        default="ours",
        help="how captions are read: ours, the default, or pattern or wordnet as official scripts",
    )


def run(args: argparse.Namespace) -> None:
    """Write the objects of every picture, and what they were made of."""
    from contralign.eval.coco import objects_of
    from contralign.eval.jsonl import digest
    from contralign.files import replace_text

    objects = objects_of(map(_read, args.instances), map(_read, args.captions), args.reading)
    files = [*args.instances, *args.captions]
    made = {
        "reading": args.reading,
        "of": {file.name: digest(file) for file in files},
        "objects": objects,
    }
    text = json.dumps(made, separators=(",", ":"))
    replace_text(args.output, text + "\n")
    print(f"{args.output}: the objects of {len(objects)} pictures, {len(text) / 1e6:.1f} MB")


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: broken JSON, {error}.") from error
