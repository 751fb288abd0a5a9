"""The table of methods as the command line shows it."""

from __future__ import annotations

import json

import pytest

from contralign.cli import main
from contralign.commands.methods import describe
from contralign.decoding import METHODS, parse


@pytest.mark.parametrize("name", METHODS)
def test_what_is_printed_parses_back_to_the_default_method(name: str) -> None:
    parameters = describe(name, METHODS[name])["parameters"]
    listed = ";".join(f"{one['name']}={one['default']}" for one in parameters)
    assert parse(f"{name}:{listed}" if listed else name).method == METHODS[name]()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_itself(name: str) -> None:
    described = describe(name, METHODS[name])
    assert described["summary"]
    assert described["paper"]
    assert all(one["meaning"].endswith(".") for one in described["parameters"])


def test_prints_names_defaults_and_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert "cad: `(1 + alpha) * l_context - alpha * l_no_context`." in printed
    assert "  Shi et al. 2023, arXiv 2305.14739\n  alpha=0.5: Strength" in printed


def test_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    assert [method["name"] for method in json.loads(capsys.readouterr().out)] == list(METHODS)
