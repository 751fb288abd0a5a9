from __future__ import annotations

import numpy as np

from contralign.eval.scenes import (
    Optics,
    World,
    dataset,
    mentions,
    own_pairs,
    pairs,
    recall_reward,
)
from contralign.eval.scenes.polling import POLLED, frequencies

WORLD = World()
SCENES = WORLD.scenes("train", 40)


def test_what_is_chosen_is_faithful_and_what_is_rejected_invents_what_comes_along() -> None:
    rows = pairs(SCENES, WORLD)
    chosen = recall_reward([row["chosen"] for row in rows], [row["objects"] for row in rows])
    assert set(chosen) == {1.0}
    dropped = set()
    for row, scene in zip(rows, SCENES, strict=True):
        said = set(mentions(row["rejected"][0]["content"]))
        (invented,) = said - set(scene.kinds)
        likely = sorted(scene.absent, key=lambda k: -frequencies(WORLD).company(k, scene))
        assert invented in likely[:POLLED]
        dropped.add(len(set(scene.kinds) - said))
    assert dropped == {0, 1}


def test_a_models_own_captions_are_rejected_where_they_invent() -> None:
    first, second, third = SCENES[:3]
    faithful = f"There is a {first.kinds[0]}."
    invented = f"There is a {third.absent[0]}."
    (row,) = own_pairs([first, second, third], [faithful, "", invented])
    assert row["id"] == third.id
    assert row["rejected"] == [{"role": "assistant", "content": invented}]


def test_the_data_set_has_the_pictures() -> None:
    optics = Optics()
    data = dataset(pairs(SCENES[:2], WORLD), SCENES, optics)
    assert set(data.column_names) == {"id", "prompt", "chosen", "rejected", "objects", "images"}
    (picture,) = data[1]["images"]
    assert (np.asarray(picture) == np.asarray(optics.picture(SCENES[1]))).all()
