"""Pictures of scenes: things on a gray ground, then what makes them hard to see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from contralign.decoding.checks import at_least

from .kinds import COLORS, mask
from .world import GRID, Scene, Thing

CELL = 24
SIDE = CELL * GRID
JITTER = 2
THING = 19
"""Pixels of a thing's side at scale 1."""

Canvas = Float[np.ndarray, "side side 3"]


@dataclass(frozen=True)
class Optics:
    """How badly a scene is seen.

    Attributes:
        noise: Standard deviation of the noise on each pixel, of 255.
        blur: Radius of the Gaussian blur, in pixels.
        occlusion: How likely a thing is half hidden behind a gray bar.
    """

    noise: float = 28.0
    blur: float = 0.7
    occlusion: float = 0.5

    def __post_init__(self) -> None:
        for name in ("noise", "blur", "occlusion"):
            at_least(name, getattr(self, name), 0)

    def picture(self, scene: Scene) -> Image.Image:
        """Paint a scene, 72 x 72 pixels; the same scene looks the same each time."""
        dice = np.random.default_rng(scene.seed)
        canvas = np.full((SIDE, SIDE, 3), dice.uniform(175, 205), dtype=np.float32)
        for thing in scene.things:
            _put(canvas, thing, dice)
            if dice.random() < self.occlusion:
                _hide(canvas, thing, dice)
        if self.blur:
            canvas = _blurred(canvas, self.blur)
        canvas += self.noise * dice.standard_normal(canvas.shape, dtype=np.float32)
        return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def _put(canvas: Canvas, thing: Thing, dice: np.random.Generator) -> None:
    side = int(THING * dice.uniform(0.85, 1.1))
    free = (CELL - side) / 2
    row, column = divmod(thing.place, GRID)
    down, right = (
        int(index * CELL + free + dice.integers(-JITTER, JITTER + 1)) for index in (row, column)
    )
    top, left = (min(max(start, 0), SIDE - side) for start in (down, right))
    shape = mask(thing.kind, side)[..., None]
    color = np.array(COLORS[thing.color], dtype=np.float32) + dice.normal(0, 8, 3)
    where = canvas[top : top + side, left : left + side]
    where += shape * (color.astype(np.float32) - where)


def _hide(canvas: Canvas, thing: Thing, dice: np.random.Generator) -> None:
    """Lay a bar over one half of a thing's place: the left, right, upper or lower."""
    row, column = divmod(thing.place, GRID)
    box = canvas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    half = CELL // 2
    halves = (box[:half], box[half:], box[:, :half], box[:, half:])
    halves[dice.integers(4)][:] = 120.0


def _blurred(canvas: Canvas, radius: float) -> Canvas:
    image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
