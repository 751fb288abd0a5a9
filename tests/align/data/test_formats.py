"""Rows of every known layout become one form; others say what was found."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
from datasets import Dataset

from contralign.align.data import RowError, normalise
from contralign.align.data.formats import excerpt


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


TEXT = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
MESSAGES = {
    "prompt": [user("The sky?")],
    "chosen": [answer("Blue.")],
    "rejected": [answer("Green.")],
}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "The sky?"}],
    "chosen": {"from": "gpt", "value": "Blue."},
    "rejected": {"from": "gpt", "value": "Green."},
}


def problem(row: Mapping[str, Any]) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        normalise(row)
    return caught.value.problem, caught.value.found


@pytest.mark.parametrize("row", [TEXT, MESSAGES])
def test_an_explicit_prompt_stays_as_it_is(row: dict[str, Any]) -> None:
    assert normalise({**row, "id": 7, "source": "web"}) == row


def test_a_prompt_in_front_of_both_completions_is_taken_out() -> None:
    turns = [user("Hi"), answer("Hello"), user("The sky?")]
    row = normalise({"chosen": [*turns, answer("Blue.")], "rejected": [*turns, answer("Green.")]})
    assert row == {"prompt": turns, "chosen": [answer("Blue.")], "rejected": [answer("Green.")]}

    text = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    assert normalise(text) == TEXT


def test_text_beside_whole_conversations_is_no_prompt() -> None:
    whole = {side: [*MESSAGES["prompt"], *MESSAGES[side]] for side in ("chosen", "rejected")}
    assert normalise({"prompt": "The sky?", **whole}) == MESSAGES


def test_sharegpt_becomes_messages() -> None:
    assert normalise(SHAREGPT) == MESSAGES


def test_sharegpt_takes_a_system_turn_from_its_place_or_its_column() -> None:
    system = {"role": "system", "content": "Be brief."}
    first = {"from": "system", "value": "Be brief."}
    expected = {**MESSAGES, "prompt": [system, user("The sky?")]}
    turns = [first, *SHAREGPT["conversations"]]

    assert normalise({**SHAREGPT, "system": "Be brief."}) == expected
    assert normalise({**SHAREGPT, "conversations": turns}) == expected
    assert normalise({**SHAREGPT, "conversations": turns, "system": "Be brief."}) == expected
    assert normalise({**SHAREGPT, "system": ""}) == MESSAGES
    both = problem({**SHAREGPT, "conversations": turns, "system": "Ramble."})
    assert both == ("unknown-format", "the column system and the system turn differ")


def test_sharegpt_tools_are_called_and_answer() -> None:
    turns = [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"where": "here"}}'},
        {"from": "observation", "value": "Rain."},
    ]
    row = normalise({**SHAREGPT, "conversations": turns, "tools": '[{"name": "look"}]'})
    function = {"name": "look", "arguments": {"where": "here"}}
    called = {**answer(""), "tool_calls": [{"type": "function", "function": function}]}

    assert row["prompt"] == [user("Weather?"), called, {"role": "tool", "content": "Rain."}]
    assert row["tools"] == [{"name": "look"}]
    turns[1]["value"] = "look(here)"
    found = problem({**SHAREGPT, "conversations": turns})
    assert found == (
        "wrong-type",
        "conversations[1] calls a function with str 'look(here)', not with JSON",
    )


def test_messages_as_the_prompts_column_and_one_message_as_a_completion() -> None:
    row = {"messages": MESSAGES["prompt"], "chosen": answer("Blue."), "rejected": answer("Green.")}
    assert normalise(row) == MESSAGES


def test_keys_that_a_table_adds_to_messages_are_gone() -> None:
    call = {"function": {"name": "look", "arguments": {"where": "here"}}}
    chosen = [{"role": "assistant", "content": None, "tool_calls": [call]}, answer("Blue.")]
    other = {"function": {"name": "find", "arguments": {"what": "sky"}}}
    rejected = [{"role": "assistant", "tool_calls": [other]}, answer("Green.")]
    written = {"prompt": [{**user("Hi"), "name": "Ann"}], "chosen": chosen, "rejected": rejected}
    table = Dataset.from_list([written], on_mixed_types=None)
    assert table[0]["chosen"][1] == {**answer("Blue."), "tool_calls": None}

    row = normalise(table[0])
    assert row["prompt"] == written["prompt"]
    assert row["chosen"] == chosen
    # A table can't tell absent content from None.
    assert row["rejected"] == [{"content": None, **rejected[0]}, rejected[1]]


def test_parts_of_text_become_text() -> None:
    parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "sky?"}]
    assert normalise({**MESSAGES, "prompt": [user(parts)]}) == MESSAGES


def test_what_the_chat_template_takes_is_kept() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": None}}
    row = {**MESSAGES, "tools": [tool], "chat_template_kwargs": {"thinking": False, "mode": None}}
    found = normalise(row)
    assert found["tools"] == [{"type": "function", "function": {"name": "look"}}]
    assert found["chat_template_kwargs"] == {"thinking": False}
    for nothing in (None, "", []):
        assert "tools" not in normalise({**row, "tools": nothing})
    assert problem({**row, "tools": "look"}) == ("wrong-type", "tools is str 'look', no JSON")
    assert problem({**row, "tools": '{"a": 1}'})[1] == "tools is dict {'a': 1}, not a list"


def test_one_image_is_a_list_of_one() -> None:
    assert normalise({**MESSAGES, "image": "a.png"})["images"] == ["a.png"]
    assert normalise({**MESSAGES, "images": ["a.png"]})["images"] == ["a.png"]
    assert normalise({**MESSAGES, "images": None})["images"] == []
    assert "images" not in normalise(MESSAGES)
    both = problem({**MESSAGES, "image": "a.png", "images": ["a.png"]})
    assert both == ("unknown-format", "there are both a column image and a column images")


@pytest.mark.parametrize(
    ("row", "name", "found"),
    [
        ({"instruction": "x", "output": "y"}, "unknown-format", "columns are instruction, output"),
        ({**TEXT, "chosen": None}, "missing-completion", "no chosen"),
        ({"prompt": "x", "chosen": "y"}, "missing-completion", "no rejected"),
        (
            {"prompt": "x", "choosen": "y", "rejected": "z"},
            "missing-completion",
            "no chosen (but a column 'choosen': is it that?)",
        ),
        ({**MESSAGES, "rejected": []}, "empty-completion", "rejected is list []"),
        ({**TEXT, "chosen": " \n"}, "empty-completion", "chosen is str ' \\n'"),
        ({**MESSAGES, "chosen": [answer("")]}, "empty-completion", "chosen is list"),
        ({**TEXT, "rejected": " blue."}, "identical", "both are str ' blue.'"),
        ({**TEXT, "chosen": 3}, "wrong-type", "chosen is int 3, not text or messages"),
        ({**TEXT, "chosen": ["a"]}, "wrong-type", "chosen[0] is str 'a', not a message"),
        ({**MESSAGES, "chosen": "Blue."}, "wrong-type", "chosen is text, rejected is messages"),
        ({**TEXT, "prompt": [user("x")]}, "wrong-type", "the prompt is messages, chosen is text"),
        ({**MESSAGES, "prompt": [user(5)]}, "wrong-type", "prompt[0].content is int 5"),
        ({**MESSAGES, "prompt": [user(None)]}, "wrong-type", "prompt[0] has no content"),
        ({**MESSAGES, "prompt": [{"content": "x"}]}, "wrong-type", "prompt[0] has no role but"),
        ({**MESSAGES, "prompt": [user([{"type": "audio"}])]}, "wrong-type", "has the part dict"),
        ({**TEXT, "chosen": "[{'role': 'assistant'}]"}, "wrong-type", "messages written out"),
        ({**TEXT, "prompt": ""}, "missing-prompt", "it is empty"),
        ({**MESSAGES, "prompt": []}, "missing-prompt", "it is empty"),
        ({"chosen": "Yes", "rejected": "No"}, "missing-prompt", "begin differently"),
        ({**MESSAGES, "prompt": "x"}, "missing-prompt", "text for a prompt, messages for"),
        ({"chosen": " a", "rejected": " b"}, "missing-prompt", "it is empty"),
        ({"chosen": "", "rejected": "No"}, "empty-completion", "chosen is empty"),
        ({"chosen": "The sky", "rejected": "The sky is"}, "empty-completion", "only how the other"),
        ({**SHAREGPT, "chosen": {"from": "elf", "value": "x"}}, "unknown-format", "from str 'elf'"),
        (
            {**TEXT, "prompt": None, "question": "x"},
            "unknown-format",
            "no column prompt, but quest",
        ),
        ({**TEXT, "system": "Be brief."}, "unknown-format", "column system with str 'Be brief.'"),
        (
            {**MESSAGES, "chosen": [*MESSAGES["prompt"], answer("x")]},
            "wrong-turn",
            "chosen begins with the turn of user and repeats the prompt",
        ),
        ({**MESSAGES, "rejected": [user("Eh?")]}, "wrong-turn", "rejected begins with the turn"),
    ],
)
def test_anything_else_is_named(row: dict[str, Any], name: str, found: str) -> None:
    assert problem(row)[0] == name
    assert found in problem(row)[1]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "1", True, -0.5])
def test_a_weight_is_a_number_of_at_least_zero(value: Any) -> None:
    assert problem({**TEXT, "weight": value})[0] == "bad-number"


def test_numbers_are_kept() -> None:
    row = normalise({**TEXT, "weight": 0, "margin": -2})
    assert (row["weight"], row["margin"]) == (0.0, -2.0)
    assert problem({**TEXT, "margin": math.nan}) == ("bad-number", "margin is float nan")


def test_the_row_is_left_as_it_was() -> None:
    row = {**SHAREGPT, "system": "Be brief.", "image": "a.png", "tools": [{"name": None}]}
    before = copy.deepcopy(row)
    normalise(row)
    assert row == before


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (TEXT, "The sky is"),
        ({"prompt": [user("First"), answer("x"), user("The\n sky?")]}, "The sky?"),
        (SHAREGPT, "The sky?"),
        ({"chosen": "x" * 60}, "x" * 47 + "..."),
        ({"chosen": [user("The sky?"), answer("x")]}, "The sky?"),
        ({"prompt": 5, "chosen": []}, ""),
        ({}, ""),
    ],
)
def test_a_row_is_recognised_by_its_prompt(row: dict[str, Any], expected: str) -> None:
    assert excerpt(row) == expected
