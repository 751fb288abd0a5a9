from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from contralign.eval.jsonl import digest, read_jsonl

FIELDS = {"id": str, "n": int}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_row_i_is_line_i_plus_1_and_other_fields_stay(tmp_path: Path, ending: bytes) -> None:
    path = written(tmp_path, b'{"id": "a", "n": 1, "more": [null]}\n{"id": "b", "n": 2}' + ending)

    assert read_jsonl(path, FIELDS) == [{"id": "a", "n": 1, "more": [None]}, {"id": "b", "n": 2}]


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, '{"id": "a\u2028b", "n": 1}\n'.encode())

    assert read_jsonl(path, FIELDS) == [{"id": "a\u2028b", "n": 1}]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"id": "b", "n":', "broken"),
        (b"", "blank. Remove it"),
        (b" \r", "blank. Remove it"),
        (b'{"id": "\xff", "n": 1}', "utf-8"),
        (b'["b", 2]', "got a list"),
        (b'{"id": "b"}', "'n' of type int, got only id"),
        (b"{}", "'id' of type str, got only nothing"),
        (b'{"id": "b", "n": "2"}', "'n' of type int, got '2'"),
        (b'{"id": "b", "n": true}', "'n' of type int, got True"),
        (b'{"id": null, "n": 1}', "'id' of type str, got None"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = written(tmp_path, b'{"id": "a", "n": 1}\n' + line + b'\n{"id": "c", "n": 3}\n')

    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:2: .*{complaint}"):
        read_jsonl(path, FIELDS)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_an_empty_file_is_called_empty(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"rows\.jsonl is empty"):
        read_jsonl(written(tmp_path, content), FIELDS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        read_jsonl(tmp_path / "absent.jsonl", FIELDS)


def test_the_digest_follows_the_bytes_alone(tmp_path: Path) -> None:
    # `printf abc | sha256sum`
    assert digest(written(tmp_path, b"abc")) == "ba7816bf8f01"
    assert digest(written(tmp_path, b"abd")) == hashlib.sha256(b"abd").hexdigest()[:12]
