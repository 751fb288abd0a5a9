"""Six transformations: what they do, and that they are torchvision's, pixel by pixel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from align_vlms import picture
from PIL import Image
from vlms import family

from contralign.decoding.transformations import (
    TRANSFORMATIONS,
    blurred,
    convolved,
    hue_turned,
    input_size,
    jitter,
    rotate,
    torchvision,
    turned,
    window,
)

PICTURE = picture(3, 61, 47)
DRAWS = 2000


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    torchvision.cache_clear()
    yield
    torchvision.cache_clear()


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_picture_keeps_its_size_and_its_original(name: str) -> None:
    before = PICTURE.tobytes()
    changed = TRANSFORMATIONS[name](PICTURE, random(), None)
    assert (changed.size, changed.mode) == (PICTURE.size, "RGB")
    assert changed.tobytes() != before
    assert PICTURE.tobytes() == before
    assert TRANSFORMATIONS[name](PICTURE, random(), None).tobytes() == changed.tobytes()


def test_only_a_crop_takes_the_size_of_the_model() -> None:
    sizes = {n: change(PICTURE, random(), (28, 20)).size for n, change in TRANSFORMATIONS.items()}
    assert sizes == {name: (28, 20) if name == "crop" else PICTURE.size for name in sizes}


def test_flips_by_hand() -> None:
    pixels = np.asarray(PICTURE)
    flipped = [TRANSFORMATIONS[n](PICTURE, random(), None) for n in [*TRANSFORMATIONS][:2]]
    assert np.array_equal(np.asarray(flipped[0]), pixels[:, ::-1])
    assert np.array_equal(np.asarray(flipped[1]), pixels[::-1])


def test_corners_that_a_rotation_uncovers_are_black() -> None:
    white = Image.new("RGB", (40, 40), "white")
    found = {tuple(x) for x in np.asarray(rotate(white, random(1))).reshape(-1, 3).tolist()}
    assert found == {(0, 0, 0), (255, 255, 255)}


def test_a_flat_picture_stays_flat_under_blur_and_a_spot_spreads_by_the_kernel() -> None:
    flat = Image.new("RGB", (20, 20), (7, 80, 200))
    assert blurred(flat, 1.7).tobytes() == flat.tobytes()
    spot = np.zeros((31, 31, 3), np.uint8)
    spot[15, 15] = 255
    found = np.asarray(blurred(Image.fromarray(spot), 2.0))[:, :, 0]
    bell = np.exp(-(np.arange(-6, 7) ** 2) / 8)
    expected = np.rint(255 * np.outer(bell, bell) / bell.sum() ** 2)
    assert np.array_equal(found[9:22, 9:22], expected)
    assert found.sum() == expected.sum()


def test_a_third_of_the_circle_turns_red_to_green() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert turned(red, 1 / 3).getpixel((0, 0)) == (0, 255, 0)


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (300, 3), (3, 300), (1, 1)])
def test_a_window_lies_in_the_picture(size: tuple[int, int]) -> None:
    generator = random()
    for _ in range(200):
        left, top, width, height = window(size, generator)
        assert 0 <= left < left + width <= size[0]
        assert 0 <= top < top + height <= size[1]


def test_the_size_of_the_model_is_that_of_a_processor_which_cuts() -> None:
    assert input_size(family("LLaVA-1.5")[1]) == (28, 28)
    assert input_size(family("Qwen2.5-VL")[1]) is None


@pytest.fixture
def vision() -> Any:
    return pytest.importorskip("torchvision.transforms", exc_type=ImportError)


def test_torchvision_is_used_where_it_is(vision: Any) -> None:
    functions = torchvision()
    assert functions is not None
    assert turned(PICTURE, 0.3).tobytes() == functions.adjust_hue(PICTURE, 0.3).tobytes()
    assert blurred(PICTURE, 1.7).tobytes() == functions.gaussian_blur(PICTURE, 13, 1.7).tobytes()


def test_without_torchvision_there_is_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    assert torchvision() is None
    assert turned(PICTURE, 0.3).tobytes() == hue_turned(PICTURE, 0.3).tobytes()
    assert blurred(PICTURE, 1.7).tobytes() == convolved(PICTURE, 1.7).tobytes()


def test_pixels_are_torchvisions(vision: Any) -> None:
    theirs = vision.functional
    for seed in range(5):
        angle = random(seed).uniform(-180, 180)
        assert rotate(PICTURE, random(seed)).tobytes() == theirs.rotate(PICTURE, angle).tobytes()
        left, top, width, height = window(PICTURE.size, random(seed))
        expected = theirs.resized_crop(PICTURE, top, left, height, width, [47, 61])
        assert TRANSFORMATIONS["crop"](PICTURE, random(seed), None).tobytes() == expected.tobytes()
        turn = random(seed).uniform(-0.5, 0.5)
        assert hue_turned(PICTURE, turn).tobytes() == theirs.adjust_hue(PICTURE, turn).tobytes()
        deviation = random(seed).uniform(1.5, 2.0)
        blur = np.asarray(theirs.gaussian_blur(PICTURE, 13, deviation), dtype=int)
        # Their kernel is summed in two dimensions at once: another order of rounding.
        assert np.abs(np.asarray(convolved(PICTURE, deviation), dtype=int) - blur).max() <= 1


def test_jitter_is_torchvisions(vision: Any) -> None:
    theirs = vision.functional
    for seed in range(5):
        generator = random(seed)
        factors, turn = generator.uniform(0, 2, 3), generator.uniform(-0.5, 0.5)
        changes = [
            lambda x, f=factors: theirs.adjust_brightness(x, f[0]),
            lambda x, f=factors: theirs.adjust_contrast(x, f[1]),
            lambda x, f=factors: theirs.adjust_saturation(x, f[2]),
            lambda x, t=turn: theirs.adjust_hue(x, t),
        ]
        expected = PICTURE
        for index in generator.permutation(4):
            expected = changes[index](expected)
        assert jitter(PICTURE, random(seed)).tobytes() == expected.tobytes()


def test_draws_are_distributed_as_torchvisions(vision: Any) -> None:
    """Two-sample Kolmogorov-Smirnov on every parameter of a window, at a level of 1 in 1000."""
    import torch

    whole, generator = Image.new("RGB", (200, 120)), random()
    crop = vision.RandomResizedCrop
    theirs = [
        crop.get_params(whole, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)
    ]  # top, left, height, width
    ours = [window(whole.size, generator) for _ in range(DRAWS)]
    given = np.array([[left, top, width, height] for top, left, height, width in theirs])
    assert torch.initial_seed() == 0
    for column, other in zip(given.T, np.array(ours).T, strict=True):
        assert kolmogorov(column, other) < 1.95 * np.sqrt(2 / DRAWS)


def kolmogorov(first: Any, second: Any) -> float:
    points = np.sort(np.concatenate([first, second]))
    shares = [np.searchsorted(np.sort(x), points, side="right") / len(x) for x in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())
