"""Options made from dataclasses, and the model's."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from contralign.commands.options import (
    DTYPES,
    add_fields,
    add_model,
    attributes,
    load_model,
    made,
    positive,
    resolved,
)
from contralign.commands.parser import Parser
from contralign.eval import loading
from contralign.eval.scenes import shipped


@dataclass(frozen=True)
class Pie:
    """A pie.

    Attributes:
        filling: What is in it,
            100% of it.
        size: Its size.
        hot: Whether it is hot.
        crust: How it is closed.
        source: Where it comes from.

    Eaten with a fork.
    """

    filling: str = "apple"
    size: float = 1.0
    hot: bool = True
    crust: Literal["top", "none"] = "top"
    source: str | Path | None = None


def parsed(*words: str) -> dict[str, Any]:
    add_fields(parser := Parser("bake pie"), Pie)
    return vars(parser.parse_args(words))


def test_the_fields_of_a_dataclass_become_options_with_its_defaults() -> None:
    assert made(Pie, argparse.Namespace(**parsed(), other=1)) == Pie()


def test_options_have_the_types_of_the_fields() -> None:
    words = ["--size", "2", "--no-hot", "--crust", "none", "--source", "shop"]
    assert parsed(*words) == {
        "filling": "apple",
        "size": 2.0,
        "hot": False,
        "crust": "none",
        "source": "shop",
    }


def test_a_literal_s_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--crust", "tpo")
    assert "there is no choice 'tpo'. Did you mean 'top'?" in capsys.readouterr().err


def test_the_help_quotes_the_docstring() -> None:
    add_fields(parser := Parser("bake pie"), Pie)
    assert "What is in it, 100% of it. Default: apple." in " ".join(parser.format_help().split())


def test_attributes_end_where_their_section_does() -> None:
    assert list(attributes(Pie)) == ["filling", "size", "hot", "crust", "source"]
    assert attributes(Pie)["source"] == "Where it comes from."


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_positive_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"at least 1, got '{text}'"):
        positive(text)


def test_the_dtypes_are_those_of_the_model() -> None:
    assert DTYPES == loading.DTYPES


def model_args(*words: str) -> argparse.Namespace:
    add_model(parser := Parser("ask"))
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "chat"), [([], True), (["--chat"], True), (["--no-chat"], False)]
)
def test_a_model_is_loaded_as_the_options_say(
    model_folder: Path, words: list[str], chat: bool
) -> None:
    model = load_model(model_args("--model", str(model_folder), "--dtype", "bfloat16", *words))
    assert model.chat is chat
    assert str(model.model.dtype) == "torch.bfloat16"


def test_a_path_that_is_no_folder_is_refused_before_anything_is_imported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--model takes a hub id or a folder, got .*/absent"):
        load_model(model_args("--model", str(tmp_path / "absent")))


@pytest.mark.parametrize("named", ["org/name", "name"])
def test_a_hub_id_stays_as_it_is(named: str) -> None:
    assert resolved(named) == named


def test_the_model_in_the_package_has_a_name() -> None:
    assert resolved("scenes") == str(shipped())
    assert resolved("~").startswith("/")


def test_a_file_is_no_model() -> None:
    with pytest.raises(ValueError, match="model_name_or_path takes a hub id or a folder, got "):
        resolved(__file__, "model_name_or_path")
