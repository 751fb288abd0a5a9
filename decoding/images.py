"""Open a picture completely and turn it to RGB, or say what is wrong with it.

A camera's note on which way is up is followed. Transparency is dropped, not blended, as by
`Image.convert("RGB")`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

# 16-bit and float pixels have no RGB: Pillow would clip them to white without a word.
_EIGHT_BITS = frozenset(
    ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"),
)


class ImageError(ValueError):
    """A picture can't be used.

    Args:
        found: Which one, and what is wrong with it.
    """

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found}. A picture is a still one of 8 bits a channel: a PIL image, its bytes, or "
            "the path of a file. Repair or convert it, or leave the row out."
        )
        self.found = found


def open_image(value: Any) -> Image.Image:
    """Read a picture completely and turn it to RGB.

    Args:
        value: A PIL image, its bytes, a path, or a mapping with `bytes` or `path`.

    Raises:
        ImageError: It's none of these, broken, animated, suspiciously large, or without an RGB.
    """
    name, source = _source(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                return _rgb(source)
            with Image.open(source) as image:  # closed at once, broken ones too
                return _rgb(image)
    except (
        OSError,
        SyntaxError,  # a broken PNG
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ImageError(f"{name}: {str(error) or type(error).__name__}") from error


def open_images(images: Sequence[Any]) -> list[list[Image.Image]]:
    """Open the pictures of a batch.

    Args:
        images: For each prompt a list of what `open_image` takes, or one such thing.

    Raises:
        ImageError: Names the prompt, counted from 0.
    """
    return [_row(index, row) for index, row in enumerate(images)]


def _row(index: int, row: Any) -> list[Image.Image]:
    try:
        return [open_image(value) for value in (row if isinstance(row, list | tuple) else [row])]
    except ImageError as error:
        raise ImageError(f"prompt {index}: {error.found}") from error


def _source(value: Any) -> tuple[str, Any]:
    """What to call a picture, and what `Image.open` takes, or the picture itself."""
    if isinstance(value, Image.Image):
        return getattr(value, "filename", "") or "an image", value
    if isinstance(value, bytes):
        return "an image", BytesIO(value)
    if isinstance(value, Mapping):
        path, read = value.get("path"), value.get("bytes")
        if read is not None:
            return path or "an image", BytesIO(read)
        if path is None:
            raise ImageError("an image has neither bytes nor a path")
        return _source(path)
    if not isinstance(value, str | Path):
        raise ImageError(f"got {type(value).__name__} {value!r:.50}")
    if "://" in str(value):
        raise ImageError(f"{value} is an address, not a file")
    return str(value), value


def _rgb(image: Image.Image) -> Image.Image:
    # A camera's JPEG can carry its own preview as a second frame.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"it has {frames} frames, and which one is meant can't be told")
    if image.mode not in _EIGHT_BITS:
        raise ValueError(f"its pixels are of mode {image.mode}, which has no RGB of 8 bits")
    if 0 in image.size:
        raise ValueError(f"its size is {image.width} x {image.height}")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")
    return upright.convert("RGB")
