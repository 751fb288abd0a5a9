"""The kinds of things in the world: their words, the theme they belong to, usual color and outline.

Every theme has one kind of each color, so a color seen without its shape still leaves one guess a
theme: the guess that a theme's other things suggest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

COLORS = {
    "red": (214, 48, 42),
    "yellow": (232, 196, 40),
    "green": (52, 160, 70),
    "blue": (48, 96, 208),
    "purple": (150, 70, 175),
    "black": (40, 40, 44),
}

Stroke = tuple[str, tuple[float, ...]]
SHARPNESS = 8
"""A mask is drawn this many times as large as it's needed, which smooths its edge."""


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        name: Its word.
        theme: Which kinds it usually appears with.
        color: The one that it usually has.
        strokes: Its outline in a square of side 2 around the origin, y downwards: ellipses (two
            corners) and polygons (their corners), filled, or in lower case cut out.
    """

    name: str
    theme: str
    color: str
    strokes: tuple[Stroke, ...]

    @property
    def plural(self) -> str:
        return {"leaf": "leaves"}.get(self.name, f"{self.name}s")

    @property
    def article(self) -> str:
        return "an" if self.name[0] in "aeiou" else "a"


def _kind(name: str, theme: str, color: str, *strokes: str) -> Kind:
    parsed = [(stroke[0], tuple(map(float, stroke[1:].split()))) for stroke in strokes]
    return Kind(name, theme, color, tuple(parsed))


_ALL = (
    _kind("cup", "room", "blue", "P-.8 -.6 .4 -.6 .3 .7 -.7 .7", "E.2 -.4 .9 .3", "e.4 -.2 .7 .1"),
    _kind("pan", "room", "black", "E-.9 -.3 .3 .9", "P.1 .1 .2 .3 1 -.6 .8 -.8"),
    _kind(
        "fork",
        "room",
        "purple",
        "P-.6 -1 .6 -1 .6 -.1 .18 .1 .18 1 -.18 1 -.18 .1 -.6 -.1",
        "p-.3 -1 -.12 -1 -.12 -.3 -.3 -.3",
        "p.12 -1 .3 -1 .3 -.3 .12 -.3",
    ),
    _kind(
        "bottle",
        "room",
        "green",
        "P-.2 -1 .2 -1 .2 -.4 .5 -.1 .5 1 -.5 1 -.5 -.1 -.2 -.4",
        "p-.3 .2 .3 .2 .3 .6 -.3 .6",
    ),
    _kind(
        "book",
        "room",
        "red",
        "P-1 -.6 -.1 -.4 -.1 .8 -1 .6",
        "P1 -.6 .1 -.4 .1 .8 1 .6",
    ),
    _kind("clock", "room", "yellow", "E-.9 -.9 .9 .9", "p-.1 -.6 .1 -.6 .1 0 .5 0 .5 .2 -.1 .2"),
    _kind("ball", "beach", "red", "E-.85 -.85 .85 .85", "p-1 -.15 1 -.15 1 .15 -1 .15"),
    _kind("boat", "beach", "blue", "P-1 .3 1 .3 .6 .9 -.6 .9", "P-.1 .15 -.1 -1 .8 .15"),
    _kind(
        "umbrella",
        "beach",
        "yellow",
        "E-1 -.9 1 .9",
        "p-1 0 1 0 1 1 -1 1",
        "P-.1 -.1 .1 -.1 .1 1 -.1 1",
    ),
    _kind("kite", "beach", "green", "P0 -1 .7 -.2 0 .6 -.7 -.2", "P-.1 .5 .1 .5 .5 1 .3 1"),
    _kind("hat", "beach", "purple", "E-1 .3 1 .8", "P-.5 .5 -.4 -.6 .4 -.6 .5 .5"),
    _kind(
        "anchor",
        "beach",
        "black",
        "E-.9 -.7 .9 .95",
        "e-.65 -.8 .65 .65",
        "p-1 -1 1 -1 1 .2 -1 .2",
        "P-.13 -.7 .13 -.7 .13 .9 -.13 .9",
        "P-.4 -.5 .4 -.5 .4 -.3 -.4 -.3",
        "E-.25 -1 .25 -.6",
    ),
    _kind(
        "car",
        "street",
        "red",
        "P-1 -.1 -.6 -.1 -.35 -.6 .4 -.6 .65 -.1 1 -.1 1 .4 -1 .4",
        "E-.75 .1 -.15 .7",
        "E.15 .1 .75 .7",
    ),
    _kind(
        "sign",
        "street",
        "yellow",
        "P-.35 -1 .35 -1 .8 -.6 .8 -.1 .35 .3 -.35 .3 -.8 -.1 -.8 -.6",
        "P-.1 .2 .1 .2 .1 1 -.1 1",
    ),
    _kind(
        "house",
        "street",
        "purple",
        "P-1 0 0 -.9 1 0",
        "P-.75 0 .75 0 .75 .9 -.75 .9",
        "p-.2 .3 .2 .3 .2 .9 -.2 .9",
    ),
    _kind(
        "bicycle",
        "street",
        "black",
        "E-1 -.1 -.1 .8",
        "e-.8 .1 -.3 .6",
        "E.1 -.1 1 .8",
        "e.3 .1 .8 .6",
        "P-.6 .3 -.3 -.5 .3 -.5 .6 .3 .45 .3 .2 -.3 -.2 -.3 -.45 .3",
    ),
    _kind(
        "lamp",
        "street",
        "green",
        "P-.4 -1 .4 -1 .75 -.2 -.75 -.2",
        "P-.1 -.3 .1 -.3 .1 .8 -.1 .8",
        "P-.5 .75 .5 .75 .5 1 -.5 1",
    ),
    _kind(
        "bell",
        "street",
        "blue",
        "E-.6 -.9 .6 .4",
        "P-.6 -.2 .6 -.2 .95 .6 -.95 .6",
        "E-.25 .5 .25 1",
    ),
    _kind(
        "tree",
        "wild",
        "green",
        "P0 -1 .6 -.2 -.6 -.2",
        "P0 -.6 .85 .5 -.85 .5",
        "P-.15 .5 .15 .5 .15 1 -.15 1",
    ),
    _kind(
        "leaf",
        "wild",
        "yellow",
        "P.9 -.9 .8 .1 .2 .6 -.5 .6 -1 1 -.6 .4 -.6 -.2 -.1 -.8",
        "p.3 -.4 .4 -.3 -.3 .4 -.4 .3",
    ),
    _kind(
        "mushroom",
        "wild",
        "red",
        "E-.95 -.85 .95 .75",
        "p-1 0 1 0 1 1 -1 1",
        "P-.3 0 .3 0 .4 .9 -.4 .9",
        "e-.5 -.5 -.15 -.2",
        "e.15 -.6 .5 -.3",
    ),
    _kind("mountain", "wild", "black", "P-1 .8 -.3 -.8 .15 .2 .45 -.3 1 .8"),
    _kind(
        "cloud",
        "wild",
        "blue",
        "E-1 -.1 0 .6",
        "E-.6 -.6 .4 .5",
        "E-.1 -.3 1 .6",
        "P-.5 .2 .5 .2 .5 .6 -.5 .6",
    ),
    _kind("moon", "wild", "purple", "E-.9 -.9 .9 .9", "e-.3 -1.1 1.4 .6"),
)
KINDS = {kind.name: kind for kind in _ALL}
THEMES = {
    theme: tuple(kind.name for kind in _ALL if kind.theme == theme)
    for theme in dict.fromkeys(kind.theme for kind in _ALL)
}
"""Theme -> its kinds, the ones that appear most often first."""


@cache
def mask(name: str, side: int) -> Float[np.ndarray, "side side"]:
    """Draw a kind's outline: 1 inside, 0 outside, in between along the edge."""
    large = side * SHARPNESS
    image = Image.new("L", (large, large))
    draw: Any = ImageDraw.Draw(image)
    for verb, points in KINDS[name].strokes:
        places = [(point + 1) * (large - 1) / 2 for point in points]
        shape = draw.ellipse if verb in "Ee" else draw.polygon
        shape(places, fill=255 if verb.isupper() else 0)
    small = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
