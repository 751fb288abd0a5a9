from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contralign.eval.thumbnails import SIDE, thumbnails


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def opened(uri: str, form: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == f"data:image/{form};base64"
    return Image.open(io.BytesIO(b64decode(data)))


def test_a_small_picture_keeps_its_pixels() -> None:
    (uri,) = thumbnails([picture(72, 40)])
    shown = np.asarray(opened(uri, "png"))
    assert shown.shape == (80, 144, 3)
    assert (shown[::2, ::2] == np.asarray(picture(72, 40))).all()


@pytest.mark.parametrize(
    ("size", "shown"), [((640, 320), (SIDE, SIDE // 2)), ((90, 200), (72, SIDE))]
)
def test_a_large_picture_shrinks(size: tuple[int, int], shown: tuple[int, int]) -> None:
    (uri,) = thumbnails([picture(*size)])
    assert opened(uri, "jpeg").size == shown


def test_what_cannot_be_read_is_not_shown(tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken.png", tmp_path / "whole.png"
    broken.write_bytes(b"no picture")
    picture(8, 8).save(whole)
    assert len(thumbnails([str(broken), str(whole)])) == 1
