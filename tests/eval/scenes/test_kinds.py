from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from contralign.eval.scenes.kinds import COLORS, KINDS, THEMES, mask


def test_there_are_enough_kinds_and_every_theme_has_one_of_each_color() -> None:
    assert len(KINDS) >= 20
    for kinds in THEMES.values():
        assert sorted(KINDS[kind].color for kind in kinds) == sorted(COLORS)


def test_kinds_differ_in_shape() -> None:
    for one, other in combinations(KINDS, 2):
        assert np.abs(mask(one, 20) - mask(other, 20)).mean() > 0.08, (one, other)


@pytest.mark.parametrize("name", KINDS)
def test_an_outline_fills_some_of_its_square(name: str) -> None:
    shape = mask(name, 20)
    assert shape.shape == (20, 20)
    assert shape.min() == 0
    assert shape.max() == 1
    assert 0.15 < shape.mean() < 0.8


@pytest.mark.parametrize(
    ("name", "article", "plural"), [("leaf", "a", "leaves"), ("anchor", "an", "anchors")]
)
def test_words(name: str, article: str, plural: str) -> None:
    assert (KINDS[name].article, KINDS[name].plural) == (article, plural)
