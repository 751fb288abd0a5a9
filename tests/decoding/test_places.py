"""Each picture has one place in its prompt, or the prompt is named."""

from __future__ import annotations

from typing import Any

import pytest
from align_vlms import picture
from vlms import family

from contralign.decoding import encode
from contralign.decoding.places import place_token, placed, split_places

A, B = picture(0), picture(1)


def chat(*parts: str) -> Any:
    content = [{"type": "image"} if p == "<>" else {"type": "text", "text": p} for p in parts]
    return [{"role": "user", "content": content}]


def test_the_token_of_each_family() -> None:
    assert place_token(family("LLaVA-1.5")[1]) == "<image>"
    assert place_token(family("Gemma 3")[1]) == "<start_of_image>"
    assert place_token(family("InternVL")[1]) == "<IMG_CONTEXT>"
    assert place_token(family("InstructBLIP")[1]) is None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("LLaVA-1.5", "What?", "<image>\n<image>\nWhat?"),
        ("LLaVA-1.5", "Is <image> in <image>?", "Is <image> in <image>?"),
        ("PaliGemma", "What?", "<image><image>What?"),
        ("InstructBLIP", "What?", "What?"),
    ],
)
def test_pictures_are_placed_in_front_of_raw_text(name: str, text: str, expected: str) -> None:
    assert placed(family(name)[1], text, 2) == expected


def test_raw_text_is_parted_behind_its_first_places() -> None:
    reader = family("LLaVA-1.5")[1]
    assert split_places(reader, "<image>\n<image> What <image>?") == (
        "<image>\n<image> ",
        "What <image>?",
    )
    assert split_places(reader, "What?") == ("", "What?")
    assert split_places(family("InstructBLIP")[1], "What?") == ("", "What?")


@pytest.mark.parametrize(
    ("name", "messages", "images", "complaint"),
    [
        # As many in all, but in the wrong rows: processors that only count don't notice.
        (
            "LLaVA-1.5",
            [chat("<>", "<>", "a"), chat("b")],
            [[A], [B]],
            "prompt 0 has 2 places for 1",
        ),
        ("Qwen2.5-VL", [chat("a"), chat("<>", "b")], [[A], [B]], "prompt 0 has 0 places for 1"),
        ("Gemma 3", [chat("<>", "a")], None, "prompt 0 has 1 places for 0"),
        ("LLaVA-1.5", ["<image> a", "b"], [[A], [B]], "prompt 1 has 0 places for 1"),
        ("PaliGemma", ["<image>a", "b"], [[A], []], "reads a picture with every prompt.*prompt 1"),
        ("InstructBLIP", ["a", "b"], [[], [A]], "reads a picture with every prompt.*prompt 0"),
        ("InstructBLIP", ["a"], [[A, B]], "reads one picture a prompt, but prompt 0 has 2"),
    ],
)
def test_a_prompt_with_other_places_is_named(
    name: str, messages: Any, images: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode(family(name)[1], messages, images)
