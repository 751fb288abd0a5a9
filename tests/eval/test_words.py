from __future__ import annotations

import pytest

from contralign.eval.words import complete_sentences, words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A man-made lake.", "a man-made lake ."),
        ("It's red. Isn't it?", "it 's red . is n't it ?"),
        ("They'll've left; I cannot", "they 'll 've left ; i can not"),
        ("The players' bench, the bus's door", "the players ' bench , the bus 's door"),
        (
            "At 10:30 a.m. in the U.S. it costs $5,000.",
            "at 10:30 a.m. in the u.s. it costs $ 5,000 .",
        ),
        ('The sign says "STOP." It is old', 'the sign says " stop . " it is old'),
        ("Wait... (a cat)\n\nA dog! -- 'hi'", "wait ... ( a cat ) a dog ! -- ' hi '"),
        ("Highway 395. It bends. End", "highway 395. it bends . end"),
        ("", ""),
    ],
)
def test_words_are_split_as_the_penn_treebank_has_them(text: str, said: str) -> None:
    assert words(text) == said.split()


def test_half_a_sentence_is_dropped() -> None:
    assert complete_sentences("A cat. A dog on a") == "A cat."
    assert complete_sentences("A cat on a") == ""
