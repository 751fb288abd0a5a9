"""`contralign data check`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contralign.cli import main

GOOD = {"prompt": "a b", "chosen": " c d", "rejected": " e"}


def written(folder: Path, *rows: Mapping[str, Any]) -> str:
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def checked(*words: str) -> int:
    """The exit code."""
    try:
        return main(["data", "check", *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_good_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD, GOOD)
    assert checked(file) == 0
    out, err = capsys.readouterr()
    told = (
        "2 rows checked (the first is row 0): nothing found.\n\nNot checked without --model: chat"
    )
    assert out.startswith(f"{file}, train: {told}")
    assert err == ""


def test_rows_that_cannot_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD, {**GOOD, "chosen": ""}, {**GOOD, "chosen": " e"})
    assert checked(file) == 1
    out = capsys.readouterr().out
    assert "3 rows checked (the first is row 0): 2 can't be trained on" in out
    assert "error: empty-completion, 1 row\n" in out
    assert "  row 1 (a b): chosen is str ''\n" in out


@pytest.mark.parametrize("option", ["--max-length", "--max_length"])
def test_the_models_tokens_are_checked(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    file = written(tmp_path, GOOD, {**GOOD, "chosen": " c d e f"}, {**GOOD, "prompt": "a b c d e"})
    assert checked(file, "--model", str(model_folder), option, "5") == 1
    out = capsys.readouterr().out
    assert "row 2 (a b c d e): it has 5 tokens, max_length is 5" in out
    assert "warning: truncated, 1 row\n" in out
    assert "Not checked" not in out

    assert checked(file, "--model", str(model_folder)) == 0
    assert "Not checked without --max-length" in capsys.readouterr().out


def test_warnings_alone_are_no_failure(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, {**GOOD, "chosen": " c d e f"})
    assert checked(file, "--model", str(model_folder), "--max-length", "5") == 0
    assert "0 can't be trained on, 1 more with warnings" in capsys.readouterr().out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD, {**GOOD, "chosen": None})
    assert checked(file, "--split", "train[1:]", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    asked = {"data": file, "split": "train[1:]", "model": None, "max_length": None}
    assert found.items() >= {**asked, "rows": 1, "unusable": 1, "tokens": False}.items()
    (problem,) = found["problems"]
    assert (problem["name"], problem["count"]) == ("missing-completion", 1)
    assert problem["first"] == [{"row": 0, "found": "no chosen", "excerpt": "a b"}]


def test_prompts_to_sample_for(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, {"prompt": "a b"}, {**GOOD, "chosen": ""}, {"prompt": "a b c d"})
    words = (file, "--method", "copg", "--online")
    assert checked(*words) == 0
    assert checked(*words[:-1]) == 1
    capsys.readouterr()
    long = (*words, "--model", str(model_folder), "--max-length", "6")
    assert checked(*long, "--max-completion-length", "3") == 1
    told = "row 2 (a b c d): it has 4 tokens, max_length is 6, a sample's 3"
    assert told in capsys.readouterr().out
    assert checked(*long, "--max-completion-length", "2") == 0
    assert checked(*long) == 1
    assert "a sample's 128" in capsys.readouterr().out
    pairs = (written(tmp_path, GOOD), "--method", "hypo", *long[4:])
    assert checked(*pairs, "--max-completion-length", "2") == 0
    assert checked(*pairs, "--max-completion-length", "6") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["FILE", "--online"], "--online is of --method copg, got dpo"),
        (["FILE", "--method", "hypo", "--online"], "--online is of --method copg, got hypo"),
        (["FILE", "--max-completion-length", "3"], "got it without --online"),
        (
            ["FILE", "--method", "copg", "--online", "--max-completion-length", "3"],
            "got it without --max-length",
        ),
        (["nowhere.jsonl"], "there is no file or folder nowhere.jsonl"),
        (["FILE", "--split", "test"], "there is no split 'test', only train"),
        (["FILE", "--max-length", "5"], "--max-length counts a model's tokens, got no --model"),
        (["FILE", "--max-length", "0"], "takes a number of at least 1"),
        (["FILE", "--model", "/nowhere"], "--model takes a hub id or a folder, got /nowhere"),
        ([], "FILE"),
    ],
)
def test_what_is_wrong_with_the_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    file = written(tmp_path, GOOD)
    assert checked(*(file if word == "FILE" else word for word in words)) == 2
    assert told in capsys.readouterr().err


def test_a_broken_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD)
    with Path(file).open("a") as lines:
        lines.write('{"prompt": \n')
    assert checked(file) == 2
    assert f"contralign: error: {file}:2: JSON is broken here" in capsys.readouterr().err


def test_there_is_something_to_do_with_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data"])
    assert "ACTION" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["data", "check", "--help"])
    assert "exit code is 0 when every row can be trained on" in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_real_pairs_in_sharegpts_layout(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(os.environ["CONTRALIGN_DATA"], "preferences", "dpo_en_demo.json")
    assert checked(str(file)) == 0
    assert "300 rows checked (the first is row 0): nothing found." in capsys.readouterr().out
