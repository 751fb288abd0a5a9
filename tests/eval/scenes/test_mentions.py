from __future__ import annotations

from typing import Any

import pytest

from contralign.eval.scenes.mentions import mentions, recall_reward


def test_mentions_are_kinds_in_order() -> None:
    said = "There are two red leaves, a cup and a leaf. A Leaflet, a cupboard!"
    assert mentions(said) == ["leaf", "cup", "leaf"]


@pytest.mark.parametrize(
    ("caption", "there", "reward"),
    [
        ("There is a cup and a ball.", ["cup", "ball"], 1.0),
        ("There is a cup, a cup and two cups.", ["cup", "ball"], 0.5),
        ("There is a cup and a pan.", ["cup", "ball"], 0.0),
        ("There is a pan and a fork.", ["cup"], -2.0),
        ("", ["cup"], 0.0),
    ],
)
def test_the_reward_is_recall_less_what_is_invented(
    caption: str, there: list[str], reward: float
) -> None:
    turn = [{"role": "assistant", "content": caption}]
    for completion in (caption, turn):
        given: Any = {"prompts": ["x"], "completions": [completion], "trainer_state": None}
        assert recall_reward(**given, objects=[there]) == [reward]


@pytest.mark.parametrize("objects", [[[]], [["cup"], ["cup"]]])
def test_a_picture_has_kinds_and_a_caption(objects: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="each of 1 captions has a picture with at least one kind"):
        recall_reward(["A cup."], objects)
