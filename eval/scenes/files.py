"""The world as files, in the formats of the benchmarks that are made like it.

    images/SPLIT-NUMBER.png                         scenes.jsonl: what is in each
    pope/SPLIT_{random,popular,adversarial}.json    POPE: JSON lines
    chair/SPLIT.json, SPLIT_captions.jsonl          the kinds in each picture; a faithful caption
    mme/SPLIT/TASK/{images,questions_answers_YN}/   MME: two questions a picture
    amber/SPLIT/{query_all,annotations,relation}.json, safe_words.txt    AMBER
    preferences/train.jsonl                         TRL's vision format, with `objects`

Formats are those of AoiDragon/POPE, BradyFU's MME, junyangwang0410/AMBER and TRL. AMBER's relations
are left out: no two things of this world touch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .amber import TYPES, imaginable, questions
from .facts import ABOUT, DESCRIBE, SHORT, caption, pair
from .kinds import KINDS
from .pictures import Optics
from .polling import SETTINGS, poll
from .preferences import pairs
from .world import SPLITS, Scene, World


def make(world: World, optics: Optics, output: Path, *, train: int, test: int) -> None:
    """Write everything.

    Args:
        world: Where scenes come from.
        optics: How they're painted.
        output: A new or empty folder.
        train: Training scenes, each with a preference pair.
        test: Scenes of either test split.

    Raises:
        ValueError: The folder holds something.
    """
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} must be new or empty, but holds files. Choose another folder.")
    splits = {split: world.scenes(split, train if split == "train" else test) for split in SPLITS}
    everything = [scene for scenes in splits.values() for scene in scenes]
    _paint(output / "images", everything, optics)
    _lines(output / "scenes.jsonl", map(asdict, everything))
    rows = pairs(splits["train"], world)
    shown = ({**row, "images": [f"../images/{_file(row['id'])}"]} for row in rows)
    _lines(output / "preferences" / "train.jsonl", shown)
    for split in SPLITS[1:]:
        write_pope(output / "pope", split, splits[split], world)
        write_chair(output / "chair", split, splits[split])
        write_mme(output / "mme" / split, splits[split], optics)
        write_amber(output / "amber" / split, splits[split], world)


def write_pope(folder: Path, split: str, scenes: Sequence[Scene], world: World) -> None:
    """Write a file of questions for each setting."""
    for setting in SETTINGS:
        asked = [(scene, question) for scene in scenes for question in poll(scene, setting, world)]
        rows = [
            {"question_id": number, "image": _file(s.id), "text": q.text, "label": q.label}
            for number, (s, q) in enumerate(asked, 1)
        ]
        _lines(folder / f"{split}_{setting}.json", rows)


def write_chair(folder: Path, split: str, scenes: Sequence[Scene]) -> None:
    """Write what is in each picture, and a caption that says so."""
    _json(folder / f"{split}.json", {scene.id: sorted(scene.kinds) for scene in scenes})
    rows = [
        {"image_id": scene.id, "caption": caption(scene, random.Random(scene.seed))}
        for scene in scenes
    ]
    _lines(folder / f"{split}_captions.jsonl", rows)


def write_mme(folder: Path, scenes: Sequence[Scene], optics: Optics) -> None:
    """Write a question with yes and one with no for each picture, by what they are about."""
    for about in ABOUT:
        asked = {scene: pair(scene, about, random.Random(scene.seed)) for scene in scenes}
        found = {scene: both for scene, both in asked.items() if both}
        _paint(folder / about / "images", list(found), optics)
        for scene, both in found.items():
            lines = [f"{q.text}{SHORT}\t{q.label.capitalize()}\n" for q in both]
            _text(folder / about / "questions_answers_YN" / f"{scene.id}.txt", "".join(lines))


def write_amber(folder: Path, scenes: Sequence[Scene], world: World) -> None:
    """Write a query for a caption and queries for yes or no, with their annotations."""
    queries = [(scene, DESCRIBE) for scene in scenes]
    notes: list[dict[str, Any]] = [
        {"type": "generative", "truth": list(scene.kinds), "hallu": imaginable(scene, world)}
        for scene in scenes
    ]
    for scene in scenes:
        for question in questions(scene, world):
            queries.append((scene, question.text))
            notes.append({"type": TYPES[question.about], "truth": question.label})
    asked = [
        {"id": number, "image": _file(scene.id), "query": text}
        for number, (scene, text) in enumerate(queries, 1)
    ]
    _json(folder / "query_all.json", asked)
    _json(folder / "annotations.json", [{"id": n, **note} for n, note in enumerate(notes, 1)])
    _json(folder / "relation.json", {kind.name: [kind.plural] for kind in KINDS.values()})
    _text(folder / "safe_words.txt", "image\n")


def _paint(folder: Path, scenes: Sequence[Scene], optics: Optics) -> None:
    folder.mkdir(parents=True)
    for scene in scenes:
        optics.picture(scene).save(folder / _file(scene.id))


def _file(scene: str) -> str:
    return f"{scene}.png"


def _lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, indent=1) + "\n")


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
