"""Answers of others to POPE's questions: matched by number or by image and question, all or none.

Official answer files have `question` and `answer`, LLaVA's and VCD's `question_id`, `prompt`,
`text` and perhaps `image`, our own `id` and `text`. Official scripts pair lines by position and
stop at the shorter file, so a file of another version gives a number that means nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .ask import Row
from .pope_files import same_question
from .records import Record, field

Finder = Callable[[Record], Sequence[Row]]


def match_answers(
    rows: Sequence[Row], records: Sequence[Record], *, ignore_extra: bool = False
) -> dict[str, str]:
    """Give each question its answer.

    Args:
        rows: From `read_questions`.
        records: From `read_records`.
        ignore_extra: Leave out answers to other questions, as RePOPE does with ambiguous ones.

    Returns:
        Row id -> what was said.

    Raises:
        ValueError: An answer without its question or the other way round, two answers to one, or
            another question than the one that has the number; names file and line.
    """
    found, places = dict[str, str](), dict[str, str]()
    find = _finder(rows, records)
    for record in records:
        place, said = record[0], _said(record)
        mine = find(record)
        if not mine and not ignore_extra:
            raise ValueError(
                f"{place}: answers a question that is not among the {len(rows)} asked, "
                f"{_asked(record)}. Is it of another split or version? --ignore-extra leaves such "
                "answers out."
            )
        for row in mine:
            _check(record, row)
            if found.setdefault(row["id"], said) != said:
                raise ValueError(
                    f"{place}: question {row['id']} has another answer at {places[row['id']]}. "
                    "Keep one answer to each question."
                )
            places.setdefault(row["id"], place)
    _check_coverage(rows, found, records[0][0])
    return found


def _finder(rows: Sequence[Row], records: Sequence[Record]) -> Finder:
    """Choose what all records can be matched by."""
    shared = set.intersection(*({*value} for _, value in records))
    numbers = [row["question_id"] for row in rows]
    if "id" in shared and "key" in shared:
        return _by_own_id(rows)
    if "question_id" in shared and len({*numbers}) == len(numbers):
        by_number = {str(row["question_id"]): [row] for row in rows}
        return lambda record: by_number.get(str(record[1]["question_id"]), [])
    if "image" in shared and all(_question(record) for record in records):
        return _by_question(rows)
    if "question_id" in shared:
        raise ValueError(
            f"{records[0][0]}: question_id {numbers[0]} is that of several questions, one in each "
            "split. Score one split at a time, or give each answer its image and question too."
        )
    return _by_position(rows, records)


def _by_own_id(rows: Sequence[Row]) -> Finder:
    """Runs ask equal questions once and note the first row's id."""
    alike = defaultdict[Any, list[Row]](list)
    for row in rows:
        alike[row["image"], row["question"]].append(row)
    by_id = {row["id"]: row for row in rows}

    def find(record: Record) -> Sequence[Row]:
        row = by_id.get(record[1]["id"])
        return [] if row is None else alike[row["image"], row["question"]]

    return find


def _by_question(rows: Sequence[Row]) -> Finder:
    by_image = defaultdict[str, list[Row]](list)
    for row in rows:
        by_image[row["image"]].append(row)
    return lambda record: [
        row
        for row in by_image[str(record[1]["image"])]
        if same_question(row["question"]) in same_question(_question(record))
    ]


def _by_position(rows: Sequence[Row], records: Sequence[Record]) -> Finder:
    """For files that say the question alone: only where each line has the right one."""
    if len(rows) != len(records):
        raise ValueError(
            f"{records[0][0]}: answers without question_id or image are matched by position, but "
            f"there are {len(records)} of them to {len(rows)} questions. Is one file of another "
            "version, or incomplete?"
        )
    if not all(_question(record) for record in records):
        raise ValueError(
            f"{records[0][0]}: an answer needs a question_id, an image and the question, or at "
            "least the question, so that it can be told what it answers."
        )
    at = {place: [row] for (place, _), row in zip(records, rows, strict=True)}
    return lambda record: at[record[0]]


def _said(record: Record) -> str:
    place, value = record
    if value.get("error") is not None:
        raise ValueError(f"{place}: holds an error instead of an answer: {value['error']}")
    return str(field(record, ("answer", "text", "response")))


def _question(record: Record) -> str:
    value = record[1]
    names = ("question", "prompt", *(("text",) if "answer" in value else ()))
    return str(next((value[name] for name in names if name in value), ""))


def _asked(record: Record) -> str:
    names = ("id", "question_id", "image")
    known = {name: record[1][name] for name in names if name in record[1]}
    return repr(known | ({"question": question} if (question := _question(record)) else {}))


def _check(record: Record, row: Row) -> None:
    place, value = record
    question, wanted = _question(record), same_question(row["question"])
    if question and wanted not in same_question(question):
        raise ValueError(
            f"{place}: answers {question!r}, but question {row['id']} is {wanted!r}. Is the file "
            "of questions another version than the one that was answered?"
        )
    if value.get("image", row["image"]) != row["image"]:
        raise ValueError(
            f"{place}: answers about {value['image']}, but question {row['id']} is about "
            f"{row['image']}. Is the file of questions another version than the one answered?"
        )


def _check_coverage(rows: Sequence[Row], found: Mapping[str, str], place: str) -> None:
    missing = [row["id"] for row in rows if row["id"] not in found]
    if missing:
        raise ValueError(
            f"{place.partition(':')[0]} answers {len(found)} of {len(rows)} questions; "
            f"{len(missing)} are missing, the first is {missing[0]}. Is it complete, and of the "
            "same split and version?"
        )
