from __future__ import annotations

import pytest

from contralign.eval.lemmas import by_ours, by_pattern, by_wordnet


@pytest.mark.parametrize(
    ("word", "pattern", "wordnet", "ours"),
    [
        ("dogs", "dog", "dog", "dog"),
        ("bus", "bu", "bus", "bus"),
        ("buses", "bus", "bus", "bus"),
        ("glass", "glas", "glass", "glass"),
        ("ties", "ty", "tie", "tie"),
        ("men", "man", "men", "man"),
        ("women", "woman", "woman", "woman"),
        ("people", "person", "people", "people"),
        ("children", "child", "child", "children"),
        ("vases", "vase", "vas", "vase"),
        ("knives", "knife", "knife", "knife"),
        ("puppies", "puppy", "puppy", "puppy"),
        ("benches", "bench", "bench", "bench"),
        ("canoes", "cano", "canoe", "canoe"),
        ("smartphones", "smartphone", "smartphones", "smartphone"),
        ("scissors", "scissors", "scissors", "scissors"),
        ("skis", "ski", "ski", "skis"),
        ("xylophones", "xylophones", "xylophones", "xylophones"),
    ],
)
def test_each_reading_has_its_own_singulars(
    word: str, pattern: str, wordnet: str, ours: str
) -> None:
    assert [read([word])[0] for read in (by_pattern, by_wordnet, by_ours)] == [
        pattern,
        wordnet,
        ours,
    ]


@pytest.mark.parametrize(
    ("text", "lemma"),
    [
        ("the man is seated at", "seat"),
        ("they are comfortably seated on", "seat"),
        ("a comfortable seating area", "seating"),
        ("two people skiing down", "ski"),
        ("a popular skiing location", "skiing"),
        ("the boat is tied to", "tie"),
        ("next to a parking meter", "parking"),
        ("a potted plant", "potted"),
    ],
)
def test_wordnet_s_reading_takes_verbs_for_things(text: str, lemma: str) -> None:
    lemmas = by_wordnet(text.split())
    changed = [
        new for old, new in zip(text.split(), lemmas, strict=True) if old.endswith(("ing", "ed"))
    ]
    assert changed == [lemma]


@pytest.mark.parametrize(
    ("text", "fruit"),
    [
        ("an orange on a plate", True),
        ("apples , an orange , and a banana", True),
        ("a large orange sign", False),
        ("the cat is orange and white", False),
        ("an orange and white cat", False),
        ("oranges", True),
    ],
)
def test_orange_is_a_fruit_where_no_noun_follows(text: str, fruit: bool) -> None:
    assert ("orange" in by_ours(text.split())) == fruit
