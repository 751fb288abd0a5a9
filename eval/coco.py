"""Ground truth for CHAIR: the objects of COCO pictures, from their instances and their captions.

Rohrbach et al. 2018, arXiv 1809.02156: a picture holds what its instance annotations mark and what
its reference captions name. COCO's annotations (instances and captions of train2014 and val2014,
https://cocodataset.org, CC BY 4.0) are 240 MB of zip; what CHAIR needs of them is 2 MB. Nothing is
ever unpickled: the `chair.pkl` that circulates can run any code.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .captions import read_caption
from .chair_words import OFFICIAL
from .jsonl import digest

FILE_NAMES = (
    "COCO_val2014_{number:012d}.jpg",
    "COCO_train2014_{number:012d}.jpg",
    "{number:012d}.jpg",
)


@dataclass(frozen=True)
class Truth:
    """Which objects are in which picture.

    Attributes:
        objects: Image number -> kinds of objects.
        version: Changes with the file.
    """

    objects: Mapping[int, Collection[str]]
    version: str


def objects_of(
    instances: Iterable[Any],
    captions: Iterable[Any],
    reading: str = "ours",
) -> dict[int, list[str]]:
    """Gather the objects of every picture that the annotations are of.

    Args:
        instances: Contents of `instances_*.json`.
        captions: Contents of `captions_*.json`.
        reading: How captions are read, see `lemmas`. "pattern" gives the ground truth that
            circulates.

    Raises:
        ValueError: An annotation of a category or picture that the file doesn't list, or a file of
            another kind.
    """
    found: dict[int, set[str]] = defaultdict(set)
    for file in instances:
        for image, category in _instances(file):
            found[image].add(category)
    for file in captions:
        for annotation in _part(file, "annotations", "captions"):
            mentions = read_caption(str(annotation["caption"]), reading).mentions
            found[annotation["image_id"]].update(mentions)
    return {image: sorted(found[image]) for image in sorted(found)}


def read_truth(path: str | Path | None) -> Truth:
    """Read ground truth: image number -> objects, alone or under `objects`.

    Raises:
        OSError: The file can't be read.
        ValueError: No file is named, or it holds something else.
    """
    if path is None:
        raise ValueError(
            "CHAIR needs to know what is in the pictures, got truth=None. Pass truth=, a file that "
            "`contralign coco` makes of COCO's annotations."
        )
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is no file. `contralign coco` makes CHAIR's ground truth.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        objects = content.get("objects", content)
        truth = {int(image): [str(kind) for kind in kinds] for image, kinds in objects.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{file}: expected JSON of image number -> list of objects, got {error}."
        ) from error
    unknown = {kind for kinds in truth.values() for kind in kinds} - {*OFFICIAL.nodes.values()}
    if unknown or not truth:
        raise ValueError(
            f"{file}: expected lists of CHAIR's 80 kinds of objects, got "
            f"{sorted(unknown)[0] if unknown else 'no picture'!r}."
        )
    return Truth(truth, digest(file))


def picture_path(folder: Path, number: int, file_name: str | None) -> Path:
    """Where a picture is: under the given name, or the first of COCO's that is there.

    Args:
        folder: Of the pictures.
        number: The image's number.
        file_name: A format such as `FILE_NAMES` has, or None to try those.

    Raises:
        ValueError: A format without a number.
    """
    names = FILE_NAMES if file_name is None else (file_name,)
    try:
        paths = [folder / name.format(number=number) for name in names]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"file_name is a format such as {FILE_NAMES[0]!r}, got {file_name!r}."
        ) from error
    return next((path for path in paths if path.is_file()), paths[0])


def _instances(file: Any) -> Iterable[tuple[int, str]]:
    names = {one["id"]: str(one["name"]) for one in _part(file, "categories", "instances")}
    unknown = [name for name in names.values() if name not in OFFICIAL.nodes]
    if unknown:
        raise ValueError(f"CHAIR knows COCO's 80 categories, got {unknown[0]!r}.")
    for annotation in _part(file, "annotations", "instances"):
        category = annotation.get("category_id")
        if category not in names:
            raise ValueError(
                f"annotation {annotation.get('id')} is of category {category}, which the file "
                "doesn't list. Is it instances_*.json, and complete?"
            )
        yield annotation["image_id"], OFFICIAL.nodes[names[category]]


def _part(file: Any, name: str, kind: str) -> Iterable[Mapping[str, Any]]:
    found = file.get(name) if isinstance(file, Mapping) else None
    wanted = {"captions": "caption", "instances": "category_id"}[kind]
    if not isinstance(found, list) or (name == "annotations" and found and wanted not in found[0]):
        raise ValueError(f"expected COCO's {kind}_*.json, got a file without its {name}.")
    return found
