"""Six random transformations of a picture (RITUAL), on Pillow and numpy.

Each draws its parameters as torchvision's transforms of the same kind do, from a seed. torchvision
isn't needed; where it can be imported it turns hues and blurs, to the same pixels, of which in a
blur some differ by one level of 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Random = np.random.Generator
Size = tuple[int, int]

KERNEL = 13
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)


def mirror(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Flip left and right."""
    return ImageOps.mirror(image)


def upend(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Flip top and bottom."""
    return ImageOps.flip(image)


def rotate(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Turn by any angle, within the frame: the corners become black."""
    return image.rotate(random.uniform(-180, 180), Image.Resampling.NEAREST)


def jitter(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Change brightness, contrast, saturation to 0 to 2 times theirs, and the hue, in any order."""
    factors = random.uniform(0, 2, 3)
    turn = random.uniform(-0.5, 0.5)
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda x: ImageEnhance.Brightness(x).enhance(factors[0]),
        lambda x: ImageEnhance.Contrast(x).enhance(factors[1]),
        lambda x: ImageEnhance.Color(x).enhance(factors[2]),
        lambda x: turned(x, turn),
    ]
    for index in random.permutation(len(changes)):
        image = changes[index](image)
    return image


def blur(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Blur with a Gaussian kernel of 13 pixels and a deviation of 1.5 to 2."""
    return blurred(image, random.uniform(1.5, 2.0))


def crop(image: Image.Image, random: Random, size: Size | None = None) -> Image.Image:
    """Cut out 8 to 100 % of the area and resize it, to `size` or to what the picture was."""
    left, top, width, height = window(image.size, random)
    box = (left, top, left + width, top + height)
    return image.crop(box).resize(size or image.size, Image.Resampling.BILINEAR)


TRANSFORMATIONS: dict[str, Callable[[Image.Image, Random, Size | None], Image.Image]] = {
    "horizontal flip": mirror,
    "vertical flip": upend,
    "rotation": rotate,
    "color jitter": jitter,
    "gaussian blur": blur,
    "crop": crop,
}


def input_size(processor: Any) -> Size | None:
    """The width and height that a processor cuts pictures to, or None where it keeps shapes."""
    images = processor.image_processor
    if not getattr(images, "do_center_crop", None):
        return None
    return images.crop_size["width"], images.crop_size["height"]


def turned(image: Image.Image, turn: float) -> Image.Image:
    """Turn the hue by a share of the colour circle, in steps of 1/255."""
    vision = torchvision()
    return hue_turned(image, turn) if vision is None else vision.adjust_hue(image, turn)


def blurred(image: Image.Image, deviation: float) -> Image.Image:
    """Convolve with a Gaussian kernel of 13 by 13, the picture mirrored at its edges."""
    vision = torchvision()
    if vision is None:
        return convolved(image, deviation)
    return vision.gaussian_blur(image, [KERNEL, KERNEL], [deviation, deviation])


@cache
def torchvision() -> Any:
    """The functions of torchvision; None where it isn't there, or is for another torch."""
    try:
        from torchvision.transforms.v2 import functional
    except (ImportError, RuntimeError):
        return None
    return functional


def hue_turned(image: Image.Image, turn: float) -> Image.Image:
    """Turn the hue with Pillow."""
    hue, saturation, value = image.convert("HSV").split()
    shifted = np.asarray(hue) + np.int32(turn * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(shifted), saturation, value)).convert("RGB")


def convolved(image: Image.Image, deviation: float) -> Image.Image:
    """Blur with numpy."""
    half = KERNEL // 2
    bell = np.exp(-0.5 * (np.arange(-half, half + 1) / deviation) ** 2)
    weights = (bell / bell.sum()).astype(np.float32)
    edges = ((half, half), (half, half), (0, 0))
    pixels = np.pad(np.asarray(image, dtype=np.float32), edges, "reflect")
    pixels = _smoothed(_smoothed(pixels, weights, 0), weights, 1)
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def window(size: Size, random: Random) -> tuple[int, int, int, int]:
    """Draw a part of a picture.

    Args:
        size: The picture's width and height.
        random: Where the draws come from.

    Returns:
        Left, top, width, height; after ten windows that don't fit, the middle.
    """
    whole, high = size
    for _ in range(10):
        area = whole * high * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= whole and 0 < height <= high:
            top = int(random.integers(high - height + 1))
            return int(random.integers(whole - width + 1)), top, width, height
    width, height = min(whole, round(high * _RATIO[1])), min(high, round(whole / _RATIO[0]))
    return (whole - width) // 2, (high - height) // 2, width, height


def _smoothed(
    pixels: NDArray[np.float32], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    rows = np.moveaxis(pixels, axis, 0)
    count = len(rows) - len(weights) + 1
    smooth = np.zeros_like(rows[:count])
    for index, weight in enumerate(weights):
        smooth += weight * rows[index : index + count]
    return np.moveaxis(smooth, 0, axis)
