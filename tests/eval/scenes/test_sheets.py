"""Lessons that share a picture are what they would be alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from contralign.decoding import encode
from contralign.eval.scenes.lessons import SEEN, UNKNOWN, UNSEEN, Lesson
from contralign.eval.scenes.network import Size, network, processor
from contralign.eval.scenes.pictures import Optics
from contralign.eval.scenes.sheets import IGNORED, attended, loss, pixels, sheet
from contralign.eval.scenes.world import World

SCENES = World().scenes("train", 2)
PICTURES = [Optics().picture(scene) for scene in SCENES]
YES = Lesson(SEEN, "Is there a cup in the image?", "Yes")
CAPTION = Lesson(SEEN, "Describe this image.", "There is a red cup and a blue cup.")
LESSONS = [
    [YES, Lesson(UNSEEN, "Describe this image.", "No"), CAPTION],
    [CAPTION, Lesson(UNKNOWN, "Is there a cup in the image?", "Yes"), YES],
]


@pytest.fixture(scope="module")
def reader() -> Any:
    return processor()


@pytest.fixture(scope="module")
def model(reader: Any) -> Any:
    size = Size(width=32, layers=2, tower_width=32, tower_layers=1, heads=2)
    return network(size, reader.tokenizer, 0).eval()


def alone(model: Any, reader: Any, picture: Any, lesson: Lesson) -> tuple[torch.Tensor, list[int]]:
    """Log-probs and tokens of an answer, asked through the processor as at any other time."""
    shown: list[dict[str, str]] = {
        SEEN: [{"type": "image"}], UNSEEN: [], UNKNOWN: [{"type": "text", "text": UNKNOWN}]
    }[lesson.picture]  # fmt: skip
    turn = {"role": "user", "content": [*shown, {"type": "text", "text": lesson.prompt}]}
    inputs = encode(reader, [[turn]], [[picture] if lesson.picture == SEEN else []])
    answer = reader.tokenizer(f"{lesson.answer}{reader.tokenizer.eos_token}").input_ids
    ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
    seen = {name: value for name, value in inputs.items() if name == "pixel_values"}
    logits = model(input_ids=ids, **seen).logits[0, -len(answer) - 1 : -1]
    return logits.log_softmax(-1), answer


def test_an_answer_is_what_it_would_be_in_a_row_of_its_own(model: Any, reader: Any) -> None:
    batch = sheet(reader, PICTURES, LESSONS)
    together = model(**batch.inputs).logits.log_softmax(-1)
    for row, lessons in enumerate(LESSONS):
        # Where a label is, the token before it predicts it.
        where = (batch.labels[row] != IGNORED).nonzero().flatten()
        expected = [alone(model, reader, PICTURES[row], lesson) for lesson in lessons]
        answers = [token for _, answer in expected for token in answer]
        assert batch.labels[row, where].tolist() == answers
        logps = torch.cat([logps for logps, _ in expected])
        torch.testing.assert_close(together[row, where - 1], logps, atol=1e-5, rtol=0)


def test_every_turn_weighs_alike(model: Any, reader: Any) -> None:
    each = []
    for row, lessons in enumerate(LESSONS):
        for lesson in lessons:
            logps, answer = alone(model, reader, PICTURES[row], lesson)
            each.append(F.nll_loss(logps, torch.tensor(answer)))
    found = loss(model, sheet(reader, PICTURES, LESSONS))
    torch.testing.assert_close(found, torch.stack(each).mean(), atol=1e-5, rtol=0)


def test_who_attends_to_whom() -> None:
    #                    beginning, picture, one that sees it, one that doesn't, padding
    turns = torch.tensor([[0, 1, 2, 2, 3, -1]])
    sees = torch.tensor([[True, True, True, True, False, False]])
    assert attended(turns, sees)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 1],
    ]


def test_pixels_are_those_of_the_processor(reader: Any) -> None:
    values = pixels(PICTURES)
    assert values.shape == (2, 3, 72, 72)
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is"}]}
    expected = encode(reader, [[turn]] * 2, [[picture] for picture in PICTURES])["pixel_values"]
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)
