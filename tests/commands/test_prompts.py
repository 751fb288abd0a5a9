"""Prompts of a file as a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contralign.commands.prompts import Prompts, item
from contralign.decoding import parse
from contralign.eval import Benchmark


def prompts(folder: Path, *rows: Mapping[str, Any], **options: Any) -> Prompts:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Prompts(str(file), **options)


def turn(text: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def test_each_sample_is_an_item(tmp_path: Path) -> None:
    found = prompts(tmp_path, {"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}, samples=2, limit=2)
    assert isinstance(found, Benchmark)
    rows = found.load()
    assert (
        [row["id"] for row in rows]
        == ["0#0", "0#1", "1#0", "1#1"]
        == [item(row, sample) for row in (0, 1) for sample in (0, 1)]
    )
    assert [found.ask(row).prompt for row in rows] == ["a", "a", "b", "b"]


def test_what_a_prompt_is_held_against(tmp_path: Path) -> None:
    row = {"prompt": "q", "context": "c ", "other": "o"}
    context = prompts(tmp_path, row, context_column="context")
    assert context.prompts(0) == ("c\n\nq", "q")
    assert prompts(tmp_path, row, contrast_column="other").prompts(0) == ("q", "o")
    assert prompts(tmp_path, row).prompts(0) == ("q", None)


@pytest.mark.parametrize(
    "prompt",
    [
        "what?",
        [turn("what?")],
        [turn("<image>\nwhat?")],
        [turn([{"type": "image"}, {"type": "text", "text": "what?"}])],
    ],
)
def test_a_user_turn_with_its_pictures_in_front(tmp_path: Path, prompt: Any) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    found = prompts(tmp_path, {"prompt": prompt, "images": ["a.png"]})
    found.check([parse("vcd")])
    ask = found.ask(found.load()[0])
    assert (ask.prompt, ask.images) == ("what?", (str(tmp_path / "a.png"),))


@pytest.mark.parametrize(
    ("row", "method", "options", "told"),
    [
        ({"prompt": "q"}, "adacad", {}, "adacad holds the prompt against the same without its con"),
        ({"prompt": "q"}, "vcd", {}, "vcd needs pictures, but row 0 has none"),
        ({"prompt": "q"}, "cad", {"context_column": "c"}, "the column c is text, got None"),
        ({"prompt": ""}, "greedy", {}, "got no text"),
        ({"question": "q"}, "greedy", {}, "prompt is None, not text or messages"),
        ({"prompt": [turn("s", "system"), turn("q")]}, "greedy", {}, "got the turns system, user"),
        ({"prompt": [turn("see <image> here")]}, "greedy", {}, "got <image> inside of it"),
        ({"prompt": "q", "images": ["no.png"]}, "greedy", {}, "row 0 .*no.png"),
        ({"prompt": "q"}, "cad", {"context_column": "c", "contrast_column": "c"}, "got both"),
    ],
)
def test_what_cannot_be_asked(
    tmp_path: Path, row: dict[str, Any], method: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        prompts(tmp_path, row, **options).check([parse(method)])
