"""Pictures as text that a page can show: small, and without a file beside it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from PIL import Image

from contralign.decoding import ImageError, open_image

SIDE = 160
"""The longest side of what is shown, in pixels."""


def thumbnails(images: Sequence[Any]) -> list[str]:
    """Make a data URI of each image that can be read.

    Args:
        images: Pictures or paths, as asks have them.
    """
    return [_uri(picture) for image in images if (picture := _opened(image)) is not None]


def _opened(image: Any) -> Image.Image | None:
    try:
        return open_image(image)
    except ImageError:
        return None


def _uri(picture: Image.Image) -> str:
    """Shrink a large picture, and enlarge a small one so that its pixels stay what they are."""
    times = SIDE // max(picture.size)
    if times:
        shown, form = picture.resize([side * times for side in picture.size], 0), "png"
    else:
        shown, form = picture.copy(), "jpeg"
        shown.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    shown.save(file, form)
    return f"data:image/{form};base64,{b64encode(file.getvalue()).decode()}"
