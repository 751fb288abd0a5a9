from __future__ import annotations

import numpy as np
import pytest

from contralign.eval.scenes.kinds import COLORS
from contralign.eval.scenes.pictures import CELL, SIDE, Optics
from contralign.eval.scenes.world import Scene, Thing, World

CLEAR = Optics(noise=0, blur=0, occlusion=0)
SCENE = Scene("x", 3, (Thing("mushroom", "blue", 0), Thing("clock", "red", 8)))


def seen(optics: Optics, scene: Scene = SCENE) -> np.ndarray:
    return np.asarray(optics.picture(scene), dtype=np.float32)


def place(pixels: np.ndarray, number: int) -> np.ndarray:
    row, column = divmod(number, 3)
    return pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


def test_the_same_scene_looks_the_same() -> None:
    scene = World().scene("train", 0)
    assert (seen(Optics(), scene) == seen(Optics(), scene)).all()
    assert Optics().picture(scene).size == (SIDE, SIDE)


def test_things_of_their_color_stand_in_their_places_and_nowhere_else() -> None:
    pixels = seen(CLEAR)
    for number in range(9):
        spread = place(pixels, number).std(axis=(0, 1)).max()
        assert (spread > 20) == (number in (0, 8))
    for number, color in ((0, "blue"), (8, "red")):
        middle = place(pixels, number)[8, 4:20]
        assert np.abs(middle - COLORS[color]).max(axis=-1).min() < 40


def test_noise_has_its_deviation() -> None:
    empty = place(seen(Optics(noise=20, blur=0, occlusion=0)), 4)
    assert empty.std() == pytest.approx(20, rel=0.1)


def test_blur_flattens_edges() -> None:
    steps = [np.abs(np.diff(seen(o), axis=1)).max() for o in (CLEAR, Optics(0, 2, 0))]
    assert steps[1] < steps[0] / 2


def test_occlusion_hides_half_of_every_thing() -> None:
    pixels = seen(Optics(noise=0, blur=0, occlusion=1))
    for number in (0, 8):
        hidden = (place(pixels, number) == 120).all(axis=-1).mean()
        assert hidden == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["noise", "blur", "occlusion"])
def test_dials_are_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        Optics(**{name: -1})
