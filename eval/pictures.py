"""Asks with their pictures read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contralign.decoding import ImageError, open_image

from .ask import Ask


def opened(ask: Ask) -> Ask:
    """Read an ask's pictures.

    Raises:
        ImageError: One can't be.
    """
    return replace(ask, images=tuple(open_image(image) for image in ask.images))


def example(asks: Sequence[Ask]) -> Ask:
    """Choose an ask with readable images, preferably one that lacks a contrast.

    Raises:
        ImageError: There is none.
    """
    for ask in sorted(asks, key=lambda ask: ask.contrast is not None):
        try:
            return opened(ask)
        except ImageError as error:
            unreadable = error
    raise unreadable
