from __future__ import annotations

import pytest

from contralign.eval.captions import read_caption


def test_mentions_are_kinds_as_often_as_they_are_named() -> None:
    read = read_caption("Two dogs and a puppy sit on a sofa near a wine glass.")
    assert read.found == ["dog", "puppy", "sofa", "wine glass"]
    assert read.mentions == ["dog", "dog", "couch", "wine glass"]
    assert len(read.words) == 13


@pytest.mark.parametrize(
    ("caption", "official", "ours"),
    [
        ("A bus on the street", [], ["bus"]),
        ("a motor bike and a cheesecake", [], ["motorcycle", "cake"]),
        ("a white stove top oven", ["oven", "oven"], ["oven"]),
        ("an orange sign", ["orange"], []),
        ("a red phone booth", ["cell phone"], []),
        ("the seat of a toilet", ["toilet"], ["toilet"]),
        ("a toilet seat", ["toilet"], ["toilet"]),
        ("train tracks", [], []),
        ("a baby elephant", ["elephant"], ["elephant"]),
    ],
)
def test_ours_corrects_what_the_official_readings_do(
    caption: str, official: list[str], ours: list[str]
) -> None:
    assert read_caption(caption, "pattern").mentions == official
    assert read_caption(caption).mentions == ours


def test_an_unknown_reading_is_refused() -> None:
    with pytest.raises(ValueError, match="reading must be one of"):
        read_caption("a dog", "spacy")
