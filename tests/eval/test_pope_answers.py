from __future__ import annotations

import re
from typing import Any

import pytest

from contralign.eval.pope_answers import match_answers


def row(split: str, number: int, image: str, thing: str) -> dict[str, Any]:
    question = f"Is there a {thing} in the image?"
    return {
        "id": f"{split}/{number}",
        "question_id": number,
        "image": image,
        "question": question,
        "label": "yes",
    }


ONE = [row("random", 1, "a.jpg", "cat"), row("random", 2, "a.jpg", "dog")]
TWO = [*ONE, row("popular", 1, "a.jpg", "cat"), row("popular", 2, "a.jpg", "fork")]
CAT, DOG = "Is there a cat in the image?", "Is there a dog in the image?"


def records(*values: dict[str, Any]) -> list[Any]:
    return [(f"f:{number}", value) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    "values",
    [
        [{"question": CAT, "answer": "Yes"}, {"question": DOG, "answer": "No"}],
        [
            {"question_id": 2, "prompt": f"{DOG} One word.", "text": "No", "image": "a.jpg"},
            {"question_id": 1, "prompt": f"{CAT} One word.", "text": "Yes", "image": "a.jpg"},
        ],
        [{"question_id": "2", "answer": "No"}, {"question_id": "1", "answer": "Yes"}],
        [
            {"image": "a.jpg", "text": DOG.replace("image", "imange"), "answer": "No"},
            {"image": "a.jpg", "text": CAT, "answer": "Yes"},
        ],
    ],
    ids=["official", "VCD", "numbers", "picture and question"],
)
def test_answers_of_every_layout_find_their_question(values: list[dict[str, Any]]) -> None:
    assert match_answers(ONE, records(*values)) == {"random/1": "Yes", "random/2": "No"}


def test_a_run_s_own_file_answers_equal_questions_once() -> None:
    own = [
        {"key": "k", "id": f"{one}", "text": one} for one in ("random/1", "random/2", "popular/2")
    ]
    found = match_answers(TWO, records(*own))
    assert found["popular/1"] == found["random/1"] == "random/1"
    assert found["popular/2"] == "popular/2"


def test_a_picture_and_its_question_answer_every_split_that_asks_it() -> None:
    things = ("cat", "dog", "fork")
    values = [
        {"image": "a.jpg", "prompt": f"Is there a {one} in the image?", "text": one}
        for one in things
    ]
    found = match_answers(TWO, records(*values))
    assert [*found.values()] == ["cat", "cat", "dog", "fork"]


@pytest.mark.parametrize(
    ("rows", "values", "complaint"),
    [
        (
            ONE,
            [{"question_id": 1, "text": "y"}],
            "1 of 2 questions; 1 are missing, the first is random/2",
        ),
        (
            ONE,
            [{"question_id": n, "text": "y"} for n in (1, 2, 3)],
            "f:3: answers a question that is not among the 2 asked, {'question_id': 3}",
        ),
        (
            ONE,
            [{"question_id": n, "text": t} for n, t in ((1, "Yes"), (2, "No"), (1, "No"))],
            "f:3: question random/1 has another answer at f:1",
        ),
        (
            ONE,
            [
                {"question_id": 1, "prompt": CAT, "text": "y"},
                {"question_id": 2, "prompt": CAT, "text": "y"},
            ],
            "f:2: answers 'Is there a cat in the image?', but question random/2 is 'Is there a dog",
        ),
        (
            ONE,
            [{"question_id": n, "image": i, "text": "y"} for n, i in ((1, "a.jpg"), (2, "b.jpg"))],
            "f:2: answers about b.jpg, but question random/2 is about a.jpg",
        ),
        (TWO, [{"question_id": 1, "text": "y"}], "question_id 1 is that of several questions"),
        (ONE, [{"question": CAT, "answer": "y"}], "there are 1 of them to 2 questions"),
        (
            ONE,
            [{"question": DOG, "answer": "y"}, {"question": CAT, "answer": "y"}],
            "f:1: answers 'Is there a dog in the image?', but question random/1 is",
        ),
        (ONE, [{"answer": "y"}, {"answer": "n"}], "f:1: an answer needs a question_id"),
        (ONE, [{"question_id": 1}, {"question_id": 2}], "f:1: needs a field 'answer'"),
        (
            ONE,
            [{"key": "k", "id": "random/1", "error": "broken picture"}],
            "f:1: holds an error instead of an answer: broken picture",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_and_no_number(
    rows: list[Any], values: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        match_answers(rows, records(*values))


def test_answers_to_more_can_be_left_out() -> None:
    values = [{"question_id": number, "text": "y"} for number in (1, 2, 3)]
    assert len(match_answers(ONE, records(*values), ignore_extra=True)) == 2
