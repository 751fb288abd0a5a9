"""Local files, their values as they are written, and complaints that name file and line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import Json, Value

from contralign.align.data.read import read_all, read_rows, stream

ROWS: list[dict[str, Any]] = [
    {"prompt": "a", "chosen": "42", "rejected": "true", "weight": 1},
    {"prompt": "é\n😀", "chosen": "null", "rejected": "None", "weight": 0.5},
]


def written(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", json.dumps(ROWS)),
        ("a.json", lines(ROWS)),
        ("a.jsonl", lines(ROWS)),
        ("a.ndjson", "\n" + lines(ROWS) + " \n"),
        ("a.jsonl", "\ufeff" + lines(ROWS)),
        ("a.json", "\ufeff" + json.dumps(ROWS)),
        ("a.csv", 'prompt,chosen,rejected,weight\na,42,true,1\n"é\n😀",null,None,0.5\n'),
    ],
)
def test_reads_what_is_written(tmp_path: Path, name: str, text: str) -> None:
    file = written(tmp_path, name, text)
    assert list(read_rows(file)) == ROWS
    assert list(read_all([file])) == ROWS
    assert list(stream([file])) == ROWS


def test_columns_have_the_type_of_their_values(tmp_path: Path) -> None:
    features = read_all([written(tmp_path, "a.jsonl", lines(ROWS))]).features
    assert features["chosen"] == Value("string")
    assert features["weight"] == Value("float64")


def test_values_that_differ_in_shape_stay_as_they_are(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": None}}}
    rows = [
        {"chosen": [{"role": "assistant", "content": "x"}], "id": 1},
        {"chosen": [{"role": "assistant", "content": "", "tool_calls": [call]}], "extra": "7"},
        {"chosen": "7", "extra": None},
        {"chosen": 7, "extra": "x", "id": "seven"},
    ]
    names = ("chosen", "id", "extra")
    dataset = read_all([written(tmp_path, "a.jsonl", lines(rows))])
    assert list(dataset) == [{name: row.get(name) for name in names} for row in rows]
    assert dataset.features == {"chosen": Json(), "id": Json(), "extra": Value("string")}
    assert dataset[1]["chosen"] == rows[1]["chosen"]
    assert list(stream([tmp_path / "a.jsonl"])) == rows


def test_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    files = [written(tmp_path, f"{i}.jsonl", lines([ROWS[i]])) for i in range(2)]
    assert list(read_all(files)) == list(stream(files)) == ROWS


def test_numbers_that_are_none_are_kept_for_the_check(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", '{"weight": NaN}\n{"weight": 1}\n')
    assert math.isnan(read_all([file])[0]["weight"])
    (row,) = read_rows(written(tmp_path, "a.csv", "weight,margin,id\nheavy,,7\n"))
    assert row == {"weight": "heavy", "margin": "", "id": "7"}


def test_messages_in_a_table_are_json(tmp_path: Path) -> None:
    cells = '"[{""role"": ""user"", ""content"": ""x""}]","[{""a"": 1}]","[""b""]"'
    text = f"chosen,rejected,images\n{cells}\n"
    (row,) = read_rows(written(tmp_path, "a.csv", text))
    assert row["chosen"] == [{"role": "user", "content": "x"}]
    assert row["rejected"] == '[{"a": 1}]'
    assert row["images"] == [str(tmp_path / "b")]


def test_paths_of_images_are_from_the_files_folder(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png"},
        {"image": "/far/a.png"},
        {"image": "https://example.org/a.png"},
        {"images": ["a.png", {"path": "b.png"}, {"bytes": "x", "path": "b.png"}, None]},
    ]
    found = list(read_rows(written(tmp_path, "a.jsonl", lines(rows))))
    assert found[0]["image"] == str(tmp_path / "a.png")
    assert (found[1], found[2]) == (rows[1], rows[2])
    inside = {"path": str(tmp_path / "b.png")}
    assert found[3]["images"] == [str(tmp_path / "a.png"), inside, rows[3]["images"][2], None]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 1,}\n', r"a\.jsonl:2: JSON is broken here: .*\(column 9\)"),
        ("a.jsonl", '{"a": 1}\n{"a": 1', r"a\.jsonl:2: JSON is broken here"),
        ("a.jsonl", '{"a": 1}\n\n[1]\n', r"a\.jsonl:3: a row is an object, got a list"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl:1: text is UTF-8"),
        ("a.jsonl", r'{"a": "\ud83d"}', r"a\.jsonl:1: text is UTF-8"),
        ("a.json", '[{"a": 1},\n{"a" 1}]', r"a\.json:2: JSON is broken here: Expecting ':'"),
        ("a.json", '[{"a": 1}, 7]', r"a\.json, row 1: a row is an object, got a int"),
        ("a.json", '{\n"data": []}', r"a\.json:1: JSON is broken here.*an array of rows, or one"),
        ("a.csv", "a,b\n1,2\n1\n", r"a\.csv:3: CSV is broken here: 2 columns, but 1 cells"),
        ("a.csv", 'a,b\n1,"2\n', r"a\.csv:2: CSV is broken here"),
        ("a.csv", b"a,b\n1,\xff\n", r"CSV is broken here: 'utf-8' codec"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, name: str, text: str | bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_all([written(tmp_path, name, text)])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_file_has_a_row(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="at least one row, got none in"):
        read_all([written(tmp_path, name, "")])


def test_half_a_character_is_only_refused_where_there_is_one(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, "a.jsonl", r'{"a": "\ud83d\ude00 \\ud"}'))
    assert row == {"a": "😀 \\ud"}
