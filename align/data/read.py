"""Rows of JSON, JSON-lines and CSV files, as they are written; complaints name file and line.

Not by `datasets`: it gives all messages of a column the same keys, takes a CSV file's "None" for a
missing answer, and doesn't say which line is broken.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, Json, Value

from .formats import IMAGES, NUMBERS
from .groups import PAIR_SCORES
from .messages import WRITTEN_OUT

Rows = Iterator[dict[str, Any]]

_CELL = 2**31 - 1
_LISTS = (*IMAGES, "completions", "scores")
_INTEGER = 2**63


def read_rows(file: Path) -> Rows:
    """Read a file row by row; the paths of images are taken from its folder.

    Raises:
        OSError: It can't be read.
        ValueError: A line is broken; the message begins with `FILE:LINE`.
    """
    for row in READERS[file.suffix](file):
        located = {name: _located(row[name], file.parent) for name in IMAGES if name in row}
        yield {**row, **located}


def read_all(files: Sequence[Path]) -> Dataset:
    """Read files into memory, as one dataset with every column's values as they are.

    Raises:
        OSError: A file can't be read.
        ValueError: A line is broken, or there is no row.
    """
    rows = [row for file in files for row in read_rows(file)]
    if not rows:
        raise ValueError(f"data has at least one row, got none in {', '.join(map(str, files))}.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    features = {name: _feature(values) for name, values in columns.items()}
    for name, feature in features.items():
        if isinstance(feature, Json):
            columns[name] = [as_json(value) for value in columns[name]]
    return Dataset.from_dict(columns, features=Features(features))


def stream(files: Sequence[Path]) -> IterableDataset:
    """Read files as they're needed."""
    return IterableDataset.from_generator(_chained, gen_kwargs={"files": list(files)})


def as_json(value: Any) -> str | None:
    """Write a value for a column of the type `Json`, which takes text for JSON if it can."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _chained(files: Sequence[Path]) -> Rows:
    for file in files:
        yield from read_rows(file)


def _feature(values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return Value("string")
    if kinds == {int} and all(abs(value) < _INTEGER for value in values if value is not None):
        return Value("int64")
    if kinds <= {int, float}:
        return Value("float64")
    return Json()


def _located(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_located(one, folder) for one in value]
    if isinstance(value, str) and "://" not in value:
        return str(folder / value)
    if isinstance(value, Mapping) and value.get("path") and not value.get("bytes"):
        return {**value, "path": _located(value["path"], folder)}
    return value


def _json_lines(file: Path) -> Rows:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _object(f"{file}:{number}", _parsed(f"{file}:{number}", line))


def _json(file: Path) -> Rows:
    """An array of rows; or JSON lines, which many call .json."""
    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    if not first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _json_lines(file)
        return
    for number, row in enumerate(_parsed(str(file), file.read_bytes())):
        yield _object(f"{file}, row {number}", row)


def _parsed(where: str, text: bytes) -> Any:
    try:
        found = json.loads(text.decode("utf-8-sig"))
        if rb"\ud" in text.lower():
            # Half a pair of surrogates is no character: nothing can store it.
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise ValueError(f"{where}: text is UTF-8, but here {error}. Repair it.") from error
    except json.JSONDecodeError as error:
        place = where if "\n" not in text.decode().strip() else f"{where}:{error.lineno}"
        raise ValueError(
            f"{place}: JSON is broken here: {error.msg} (column {error.colno}). A file holds an "
            "array of rows, or one row a line. Repair or remove it."
        ) from error
    return found


def _object(where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row is an object, got a {type(row).__name__}. Remove it.")
    return row


def _csv(file: Path) -> Rows:
    csv.field_size_limit(_CELL)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            for cells in reader:
                if len(cells) != len(header):
                    raise ValueError(f"{len(header)} columns, but {len(cells)} cells")
                yield {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)}
        except (csv.Error, ValueError) as error:
            raise ValueError(
                f"{file}:{reader.line_num}: CSV is broken here: {error}. Repair or remove it."
            ) from error


def _cell(name: str, cell: str) -> Any:
    """A cell's value: numbers where there should be some, messages where JSON says so."""
    try:
        if name in (*NUMBERS, *PAIR_SCORES, "score"):
            return float(cell)
        if WRITTEN_OUT.match(cell) or (name in _LISTS and cell.startswith("[")):
            return json.loads(cell)
    except ValueError:
        pass
    return cell


READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
}
