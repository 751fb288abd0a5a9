"""Pictures are read completely and turned to RGB, or refused with their name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contralign.decoding.images import ImageError, open_image, open_images

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def saved(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_reads_every_kind(tmp_path: Path) -> None:
    file, data = tmp_path / "a.png", saved(PICTURE)
    file.write_bytes(data)
    for value in (PICTURE, data, str(file), file, {"bytes": data}, {"path": file, "bytes": None}):
        image = open_image(value)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_modes_of_eight_bits_become_rgb_as_pillow_does_it(mode: str) -> None:
    image = PICTURE.convert(mode)
    assert np.array_equal(np.asarray(open_image(image)), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_without_a_warning() -> None:
    palette = PICTURE.quantize(4)
    data = saved(palette, transparency=bytes([0, 128, 255, 255]))
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(palette.convert("RGB")))


def test_the_camera_says_which_way_is_up() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert open_image(saved(PICTURE, exif=exif)).size == (6, 9)


def test_a_cameras_preview_is_no_animation() -> None:
    photo = saved(PICTURE, "mpo", save_all=True, append_images=[PICTURE.resize((3, 2))])
    assert open_image(photo).size == (9, 6)


CLOSED = PICTURE.copy()
CLOSED.close()
FRAMES = saved(PICTURE, "gif", save_all=True, append_images=[PICTURE.rotate(90)])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("nowhere.png", "nowhere.png: .*No such file"),
        ({"bytes": saved(PICTURE)[:90], "path": "cut.png"}, "cut.png: "),
        (b"no picture", "an image: cannot identify"),
        (FRAMES, "it has 2 frames, and which one is meant can't be told"),
        (Image.open(io.BytesIO(FRAMES)), "an image: it has 2 frames"),
        (Image.new("I;16", (2, 2)), "of mode I;16, which has no RGB"),
        (Image.new("F", (2, 2)), "of mode F, which has no RGB"),
        (Image.new("RGB", (0, 5)), "its size is 0 x 5"),
        (CLOSED, "an image: .*closed"),
        ({"path": None}, "neither bytes nor a path"),
        ("https://example.org/a.png", "is an address, not a file"),
        (5, "got int 5"),
        (None, "got NoneType None"),
    ],
)
def test_names_what_it_cannot_use(value: Any, found: str) -> None:
    with pytest.raises(ImageError, match=f"(?s){found}.*Repair or convert it"):
        open_image(value)


@pytest.mark.parametrize("pixels", [PIXELS.size // 3 // 4, PIXELS.size // 3 - 1])
def test_a_bomb_is_not_decoded(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow raises beyond twice its limit, and only warns beyond once."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(ImageError, match="exceeds limit"):
        open_image(saved(PICTURE))


def test_a_batch_says_which_prompt_it_was() -> None:
    opened = open_images([[PICTURE, saved(PICTURE)], PICTURE, []])
    assert [len(row) for row in opened] == [2, 1, 0]
    with pytest.raises(ImageError, match=r"prompt 2: gone.png: .*No such file"):
        open_images([[PICTURE], [], [PICTURE, "gone.png"]])
