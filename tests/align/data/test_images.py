"""Images are read completely, and each has its place in the prompt."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from align_vlms import picture
from PIL import Image
from trl.data_utils import prepare_multimodal_messages

from contralign.align.data import RowError, normalise
from contralign.align.data.images import open_image, place

PNG = io.BytesIO()
picture().save(PNG, "png")


def pixels(image: Image.Image) -> bytes:
    return image.tobytes()


def test_reads_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PNG.getvalue())
    for value in (
        picture(),
        str(file),
        file,
        {"bytes": PNG.getvalue(), "path": None},
        {"bytes": None, "path": str(file)},
        {"path": str(file)},
    ):
        image = open_image(value)
        assert (image.mode, pixels(image)) == ("RGB", pixels(picture()))


def test_gray_becomes_rgb() -> None:
    assert open_image(picture().convert("L")).mode == "RGB"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("nowhere.png", "nowhere.png: .*No such file"),
        ({"bytes": PNG.getvalue()[:900], "path": "cut.png"}, "cut.png: "),
        ({"bytes": b"GIF89a", "path": None}, "an image: "),
        ({"path": None}, "an image has neither bytes nor a path"),
        ("https://example.org/a.png", "is an address, not a file"),
        (5, "got int 5"),
    ],
)
def test_names_what_it_cannot_read(value: Any, found: str) -> None:
    with pytest.raises(RowError, match=found) as caught:
        open_image(value)
    assert caught.value.problem == "unreadable-image"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


IMAGE = {"type": "image"}


@pytest.mark.parametrize(
    ("prompt", "images", "expected"),
    [
        ([user("What?")], 2, [user([IMAGE, IMAGE, part("What?")])]),
        ([user("<image>\nWhat?")], 1, [user([IMAGE, part("\nWhat?")])]),
        ([user("Is <image> in <image>")], 2, [user([part("Is "), IMAGE, part(" in "), IMAGE])]),
        ([user([part("What?"), IMAGE])], 1, [user([part("What?"), IMAGE])]),
        # TRL alone would want the image twice: for the placeholder, and for the first bare text.
        ([user([IMAGE]), user("What?")], 1, [user([IMAGE]), user([part("What?")])]),
        ([user("What?")], 0, [user([part("What?")])]),
    ],
)
def test_each_image_has_a_place(prompt: list[Any], images: int, expected: list[Any]) -> None:
    given = [object() for _ in range(images)]
    filled = prepare_multimodal_messages(place(prompt, given), given)
    found = [p.pop("image") for turn in filled for p in turn["content"] if p["type"] == "image"]
    assert (filled, found) == (expected, given)


@pytest.mark.parametrize(
    ("prompt", "images", "found"),
    [
        ([user("<image> What?")], 2, "1 placeholders, the row has 2 images"),
        ([user("<image> What?")], 0, "1 placeholders, the row has 0 images"),
        ([user([part("What?")])], 1, "0 placeholders, the row has 1 images"),
        ([user([IMAGE, IMAGE])], 1, "2 placeholders, the row has 1 images"),
    ],
)
def test_counts_that_differ_are_named(prompt: list[Any], images: int, found: str) -> None:
    with pytest.raises(RowError, match=found) as caught:
        place(prompt, [None] * images)
    assert caught.value.problem == "image-count"


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        ({"chosen": [{"role": "assistant", "content": [IMAGE, part("x")]}]}, "chosen has a plac"),
        ({"prompt": [user([{"type": "image", "image": "a.png"}])]}, "holds an image itself"),
    ],
)
def test_images_are_in_their_column_and_belong_to_the_prompt(
    turn: dict[str, Any], found: str
) -> None:
    row = {
        "prompt": [user("What?")],
        "chosen": [{"role": "assistant", "content": "a cat"}],
        "rejected": [{"role": "assistant", "content": "a dog"}],
        "images": [],
    }
    with pytest.raises(RowError, match=found) as caught:
        normalise({**row, **turn})
    assert caught.value.problem == "image-count"
