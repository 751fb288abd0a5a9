"""The page: one file, nothing unescaped, right and wrong told apart."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from eval_doubles import Adder, Sums
from PIL import Image

from contralign.decoding import parse_list
from contralign.eval.page import page
from contralign.eval.report import build_report
from contralign.eval.runner import run
from contralign.eval.thumbnails import thumbnails

VOID = {"meta", "path", "use", "img"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    result = run(Sums(), Adder(), parse_list("greedy,cutoff-only"), tmp_path, batch_size=4)
    return build_report(result, "contralign eval sums")


def test_every_tag_is_closed_and_nothing_is_fetched(report: dict[str, Any]) -> None:
    parser = Balanced()
    parser.feed(page(report))
    assert parser.open == []
    assert all(link.startswith("#") for link in parser.links)
    assert "<script" not in page(report)


def test_an_example_shows_its_pictures(report: dict[str, Any]) -> None:
    first, second = report["disagreements"]["shown"]
    first["images"] = thumbnails([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))])
    cards = page(report).split('<div class="example">')[1:]
    sources = [re.findall(r'<img src="(data:image/png;base64,[^"]+)"', card) for card in cards]
    assert sources == [first["images"], []]
    assert second["images"] == []


def test_text_of_data_and_models_is_escaped(report: dict[str, Any]) -> None:
    evil = "<img src=x onerror=alert(1)>"
    example = report["disagreements"]["shown"][0]
    example.update(id=evil, prompt=evil, gold=[evil])
    example["answers"][0]["text"] = evil
    report["benchmark"] = report["reproduce"]["command"] = evil
    text = page(report)
    assert evil not in text
    assert text.count("&lt;img") >= 6


def test_answers_are_colored_by_their_value(report: dict[str, Any]) -> None:
    answers = report["disagreements"]["shown"][0]["answers"]
    answers.append({"label": "half", "text": "so so", "error": None, "value": 0.5})
    answers.append({"label": "mute", "text": "hm", "error": None, "value": None})
    answers.append({"label": "lost", "text": "", "error": "out of memory", "value": None})
    text = page(report)
    for kind, label in [("wrong", "greedy"), ("right", "cutoff-only"), ("partly", "half")]:
        assert f'<tr class="{kind}"><td>{label}</td>' in text
    assert "<td>hm</td><td>unparsed</td>" in text
    assert '<tr class="none"><td>lost</td><td>error: out of memory</td><td></td>' in text


def test_without_disagreement_there_are_no_examples(report: dict[str, Any]) -> None:
    report["disagreements"] = {"total": 0, "shown": []}
    assert "Where the methods disagree" not in page(report)


def test_a_row_without_gold_shows_none(report: dict[str, Any]) -> None:
    report["disagreements"]["shown"][0]["gold"] = None
    assert page(report).count("Expected:") == 1
