from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contralign.eval.chair_words import OBJECTS
from contralign.eval.coco import objects_of, read_truth

INSTANCES: dict[str, Any] = {
    "categories": [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3},
        {"id": 2, "image_id": 7, "category_id": 3},
        {"id": 3, "image_id": 9, "category_id": 18},
    ],
}
CAPTIONS: dict[str, Any] = {
    "annotations": [
        {"image_id": 7, "caption": "A bus and a taxi"},
        {"image_id": 8, "caption": "Nothing"},
        {"image_id": 7, "caption": "Two buses"},
    ]
}


def test_a_picture_holds_its_instances_and_what_its_captions_name() -> None:
    found = objects_of([INSTANCES], [CAPTIONS])
    assert found == {7: ["bus", "car"], 8: [], 9: ["dog"]}
    # The singularizing script misses the first caption's bus.
    first = {"annotations": CAPTIONS["annotations"][:1]}
    assert objects_of([INSTANCES], [first], "pattern")[7] == ["car"]


@pytest.mark.parametrize(
    ("instances", "captions", "complaint"),
    [
        (
            CAPTIONS,
            CAPTIONS,
            r"expected COCO's instances_\*\.json, got a file without its categories",
        ),
        (INSTANCES, INSTANCES, r"expected COCO's captions_\*\.json"),
        (
            {**INSTANCES, "categories": [{"id": 3, "name": "car"}]},
            CAPTIONS,
            "annotation 3 is of category 18",
        ),
        (
            {**INSTANCES, "categories": [{"id": 1, "name": "ufo"}]},
            CAPTIONS,
            "80 categories, got 'ufo'",
        ),
        (INSTANCES, [], r"captions_\*\.json"),
    ],
)
def test_other_files_are_refused(instances: Any, captions: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        objects_of([instances], [captions])


@pytest.mark.parametrize(
    "content", [{"7": ["dog"]}, {"objects": {"7": ["dog"]}, "reading": "ours"}]
)
def test_ground_truth_is_read_bare_and_with_what_it_was_made_of(
    tmp_path: Path, content: Any
) -> None:
    (path := tmp_path / "truth.json").write_text(json.dumps(content))
    assert read_truth(path).objects == {7: ["dog"]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1]", "expected JSON of image number -> list of objects"),
        ("{", "expected JSON of image number -> list of objects"),
        ('{"a": []}', "expected JSON of image number"),
        ("{}", "got 'no picture'"),
        ('{"7": ["puppy"]}', "CHAIR's 80 kinds of objects, got 'puppy'"),
    ],
)
def test_other_ground_truth_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (path := tmp_path / "truth.json").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_truth(path)


def test_no_ground_truth_is_an_error_that_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got truth=None.*contralign coco"):
        read_truth(None)
    with pytest.raises(FileNotFoundError, match=r"absent is no file.*contralign coco"):
        read_truth(tmp_path / "absent")


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_the_published_ground_truth_is_read() -> None:
    path = Path(os.environ["CONTRALIGN_DATA"], "chair", "gt_objects_opera500.json")
    objects = read_truth(path).objects
    assert len(objects) == 994
    assert {kind for kinds in objects.values() for kind in kinds} <= {*OBJECTS}
