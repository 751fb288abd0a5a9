from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from contralign.eval.yes_no import PARSERS, parse


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes, there is no doubt.", "yes"),
        ("No.\nThe image shows a cat.", "no"),
        ("**Yes**", "yes"),
        ("Answer: no", "no"),
        ("The answer is yes.", "yes"),
        ("NO!", "no"),
        ("There isn't a dog.", "no"),
        ("There isn\u2019t a dog.", "no"),
        ("There are two dogs in the image.", "yes"),
        ("The image shows a cat. No dog is visible.", "no"),
        ("I can't see one: there is none", "no"),
        ("Yes and no", None),
        ("yes/no", None),
        ("It is not. Yes it is", None),
        ("I do not know.", None),
        ("I'm not sure.", None),
        ("It's not possible to tell.", None),
        ("It isn't clear whether there is a dog.", None),
        ("snowboard", None),
        ("Absolutely", None),
        ("", None),
    ],
)
def test_ours_reads_an_answer_or_says_that_it_cannot(text: str, said: str | None) -> None:
    assert parse(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", "yes"),
        ("no, thanks", "no"),
        ("It is (yes)", "yes"),
        ("yes or no", None),
        ("nope", None),
        ("**yes**", None),
    ],
)
def test_vlmevalkit_takes_one_of_the_words(text: str, said: str | None) -> None:
    assert parse(text, "vlmevalkit") == said


def test_an_unknown_parser_and_a_missing_label_are_refused() -> None:
    with pytest.raises(ValueError, match="parser must be one of"):
        parse("yes", "oficial")
    with pytest.raises(ValueError, match="depends on the label, 'yes' or 'no', got None"):
        parse("yes", "vcd")


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_the_official_parsers_read_the_examples_as_their_scripts_do() -> None:
    file = Path(os.environ["CONTRALIGN_DATA"], "pope", "parser_examples.json")
    examples = json.loads(file.read_text())
    assert len(examples) == 36
    for example in examples:
        answer = example["answer"]
        for name in ("official", "opera", "repope", "lmms"):
            assert parse(answer, name) == example[name], (name, answer)
        for label in ("yes", "no"):
            assert parse(answer, "vcd", label) == example[f"vcd_if_label_{label}"], (label, answer)
    assert next(iter(PARSERS)) == "ours"
