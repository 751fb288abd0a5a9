from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contralign.eval.records import field, image_number, read_records


def written(tmp_path: Path, text: str) -> Path:
    (path := tmp_path / "rows.json").write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"a": 1}\n{"a": 2}\n', [":1", ":2"]),
        ('{"a": 1}\r\n\r\n{"a": 2}', [":1", ":3"]),
        ('\ufeff{"a": 1}\n{"a": 2}', [":1", ":2"]),
        ('[{"a": 1},\n {"a": 2}]', [", element 1", ", element 2"]),
    ],
    ids=["lines", "of Windows", "with a mark", "array"],
)
def test_lines_and_arrays_are_read_alike(tmp_path: Path, text: str, places: list[str]) -> None:
    records = read_records(path := written(tmp_path, text))
    assert records == [(f"{path}{places[0]}", {"a": 1}), (f"{path}{places[1]}", {"a": 2})]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no object"),
        ("[]", "holds no object"),
        ('{"a": 1}\n{"a"\n', r"rows\.json:2: broken JSON"),
        ('[{"a": 1}, 3]', "element 2: expected a JSON object, got a int"),
        ('[{"a": 1}', "broken JSON"),
        ('"x"\n', r"rows\.json:1: expected a JSON object, got a str"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_records(written(tmp_path, text))


def test_other_bytes_than_text_are_refused(tmp_path: Path) -> None:
    (path := tmp_path / "rows.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_records(path)


def test_a_field_is_the_first_of_its_names_and_of_its_type() -> None:
    record: Any = ("f:1", {"text": "t", "answer": "a", "n": 1, "flag": True})
    assert field(record, ("answer", "text")) == "a"
    with pytest.raises(ValueError, match="f:1: needs a field 'label', got text, answer, n, flag"):
        field(record, ("label",))
    with pytest.raises(ValueError, match="the field 'n' has a bad value, 1"):
        field(record, ("n",))
    with pytest.raises(ValueError, match="'flag' has a bad value"):
        field(record, ("flag",), int)


@pytest.mark.parametrize(
    ("value", "number"),
    [(42, 42), ("42", 42), ("COCO_val2014_000000000042.jpg", 42), ("a/000000000042.png", 42)],
)
def test_an_image_is_known_by_its_number(value: object, number: int) -> None:
    assert image_number(value, "f:1") == number


@pytest.mark.parametrize("value", ["cat.jpg", True, None, 1.5])
def test_an_image_without_a_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="f:1: an image is a number or a file name"):
        image_number(value, "f:1")
