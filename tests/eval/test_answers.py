"""Answers on disk: whole lines or none, and nothing read wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contralign.eval.answers import Answer, Record, answer_files, read_answers
from contralign.files import LineFile

FIRST = Record("k1", "row1", Answer("Ωmega", 3, seconds=0.5))
SECOND = Record("k2", "row2", Answer("two\nlines", 2))
FAILED = Record("k1", "row1", Answer("", 0, "RuntimeError: out of memory"))


def write(path: Path, *records: Record) -> None:
    with LineFile(path) as file:
        file.append(records)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "answers" / "greedy.jsonl"
    write(path, FIRST, SECOND)
    assert read_answers([path]) == {"k1": FIRST.answer, "k2": SECOND.answer}


def test_files_belong_to_a_decoding_whatever_number_of_processes_wrote_them(
    tmp_path: Path,
) -> None:
    names = ["cad_alpha=0.5", "greedy", "greedy.rank0", "greedy.rank1"]
    for name in names:
        write(tmp_path / "answers" / f"{name}.jsonl", FIRST)
    (tmp_path / "answers" / "notes.txt").touch()
    files = {name: [path.stem for path in paths] for name, paths in answer_files(tmp_path).items()}
    assert files == {"cad_alpha=0.5": names[:1], "greedy": names[1:]}
    assert answer_files(tmp_path / "absent") == {}


def test_that_a_closed_ask_said_no_label_is_kept(tmp_path: Path) -> None:
    off = Record("k", "row", Answer("Yes", 1, off_label=True))
    write(tmp_path / "greedy.jsonl", off, FIRST)
    assert read_answers([tmp_path / "greedy.jsonl"]) == {"k": off.answer, "k1": FIRST.answer}
    assert "off_label" not in FIRST.line()


def test_every_append_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "greedy.jsonl"
    with LineFile(path) as file:
        file.append([FIRST])
        assert len(read_answers([path])) == 1


def test_an_error_is_written_without_a_text() -> None:
    fields = json.loads(FAILED.line())
    assert fields["error"] == "RuntimeError: out of memory"
    assert "text" not in fields


def test_an_answer_replaces_an_error_and_no_error_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "greedy.jsonl"
    write(path, FAILED)
    assert read_answers([path])["k1"].error is not None
    write(path, FIRST, FAILED)
    assert read_answers([path])["k1"] == FIRST.answer


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / "a.rank0.jsonl", tmp_path / "a.rank1.jsonl"]
    write(paths[0], FIRST)
    write(paths[1], SECOND)
    assert read_answers(paths).keys() == {"k1", "k2"}


def test_a_half_line_is_skipped_and_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "greedy.jsonl"
    write(path, FIRST)
    with path.open("a") as file:
        file.write(SECOND.line()[:20])
    assert read_answers([path]) == {"k1": FIRST.answer}
    write(path, SECOND)
    assert path.read_text() == f"{FIRST.line()}\n{SECOND.line()}\n"


@pytest.mark.parametrize(
    "line",
    [
        "{half",
        "[]",
        '"text"',
        '{"key": "k"}',
        '{"key": "k", "text": "a", "tokens": null}',
        '{"key": "k", "text": 3, "tokens": 1, "seconds": 0}',
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "greedy.jsonl"
    path.write_text(f"{FIRST.line()}\n{line}\n{SECOND.line()}\n")
    with pytest.raises(ValueError, match=r"greedy\.jsonl:2 is no answer record"):
        read_answers([path])


def test_an_empty_file_has_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "greedy.jsonl"
    path.touch()
    assert read_answers([path]) == {}
