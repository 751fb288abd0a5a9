"""Options from a YAML file, and complaints that name the nearest right word."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from contralign.commands.parser import Parser, read_config


@pytest.fixture
def parser() -> Parser:
    parser = Parser("eat")
    parser.add_argument("--config")
    parser.add_argument("--fruit", required=True)
    parser.add_argument("--how-many", type=int, default=1)
    parser.add_argument("--peel", action=argparse.BooleanOptionalAction)
    return parser


def written(folder: Path, text: str) -> str:
    file = folder / "eat.yaml"
    file.write_text(text)
    return f"--config={file}"


def refusal(parser: Parser, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(words)
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("contralign: error: ")
    assert complaint.count("\n") == 1
    return complaint


def test_a_file_sets_options_and_the_command_line_wins(parser: Parser, tmp_path: Path) -> None:
    config = written(tmp_path, "fruit: pear\nhow_many: 3\npeel: true\n")
    args = parser.parse_args(["--how-many", "4", config])
    assert (args.fruit, args.how_many, args.peel) == ("pear", 4, True)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("fruit: [pear, fig]", "fruit", "pear,fig"),
        ("fruit: --odd=name", "fruit", "--odd=name"),
        ("peel: false", "peel", False),
        ("how_many: null", "how_many", 1),
    ],
)
def test_a_file_s_values_are_read_like_words(
    parser: Parser, tmp_path: Path, line: str, key: str, value: Any
) -> None:
    words = [written(tmp_path, line)] + ([] if key == "fruit" else ["--fruit", "fig"])
    assert getattr(parser.parse_args(words), key) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("friut: pear", "there is no key 'friut'. Did you mean 'fruit'?"),
        ("how-many: 3", "there is no key 'how-many'. Did you mean 'how_many'?"),
        ("config: other.yaml", "there is no key 'config'."),
        ("3: 4", "there is no key '3'."),
    ],
)
def test_refuses_unknown_keys(
    parser: Parser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    complaint: str,
) -> None:
    assert f"eat.yaml: {complaint}" in refusal(parser, [written(tmp_path, text)], capsys)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fruit: true", "fruit takes one value, or a list of values, got True"),
        ("fruit: {a: 1}", "fruit takes one value, or a list of values, got {'a': 1}"),
        ("peel: often", "peel takes true or false, got 'often'"),
        ("fruit: [pear", "eat.yaml is no YAML file"),
        ("fruit: fig\npeel: true\nfruit: pear", 'twice\n  in "<unicode string>", line 3, column 1'),
        ("fruit: {a: 1, a: 2}", "the key 'a' is there twice"),
        ("- fruit", "eat.yaml must hold `key: value` lines, got list"),
    ],
)
def test_refuses_files_that_set_no_options(
    parser: Parser, tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=r"eat\.yaml") as refused:
        parser.parse_args([written(tmp_path, text)])
    assert complaint in str(refused.value)


def test_a_list_repeats_an_option_that_can_be_repeated(parser: Parser, tmp_path: Path) -> None:
    parser.add_argument("--nut", action="append", default=[])
    config = written(tmp_path, "fruit: [fig, pear]\nnut: [pecan, 3]")
    args = parser.parse_args([config, "--nut", "last"])
    assert (args.fruit, args.nut) == ("fig,pear", ["pecan", "3", "last"])


def test_there_is_one_file(
    parser: Parser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, "fruit: fig")
    assert "--config is given once, got" in refusal(parser, [config, config], capsys)
    assert "argument --config: expected one argument" in refusal(parser, ["--config"], capsys)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ValueError, match="--config names a YAML file") as refused:
            read_config(place)
        assert str(place) in str(refused.value)


def test_a_bad_value_in_a_file_is_refused_like_a_word(
    parser: Parser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, "fruit: fig\nhow_many: many")
    assert "eat.yaml: how_many: invalid int value: 'many'" in refusal(parser, [config], capsys)


@pytest.mark.parametrize("word", ["--friut", "--friut=fig"])
def test_an_unknown_option_is_named_before_a_missing_one(
    parser: Parser, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    complaint = refusal(parser, [word], capsys)
    assert "there is no option '--friut'. Did you mean '--fruit'? See eat --help." in complaint


def test_a_value_may_begin_with_dashes(parser: Parser) -> None:
    assert parser.parse_args(["--fruit", "-- a fig"]).fruit == "-- a fig"


def test_a_word_far_from_all_gets_the_list(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = refusal(parser, ["--zzz"], capsys)
    assert "There are: --help, --config, --fruit, --how-many, --peel, --no-peel." in complaint


def test_refuses_words_that_no_option_takes(
    parser: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "eat takes no word 'now' there." in refusal(parser, ["--fruit", "fig", "now"], capsys)


def test_options_are_not_abbreviated(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no option '--fru'" in refusal(parser, ["--fru", "fig"], capsys)


def test_underscores_stand_for_dashes_in_options_only(parser: Parser) -> None:
    args = parser.parse_args(["--how_many=2", "--fruit", "star_fruit"])
    assert (args.how_many, args.fruit) == (2, "star_fruit")


def test_a_command_is_filled_in_when_it_is_used() -> None:
    filled: list[str] = []
    commands = (parser := Parser("eat")).add_subparsers()
    for name in ("pear", "fig"):
        commands.add_parser(name, fill=lambda parser: filled.append(parser.prog))
    parser.parse_args(["fig"])
    assert filled == ["eat fig"]


def test_refuses_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    (parser := Parser("eat")).add_subparsers(metavar="FRUIT").add_parser("pear")
    complaint = refusal(parser, ["pera"], capsys)
    assert "argument FRUIT: there is no choice 'pera'. Did you mean 'pear'?" in complaint
