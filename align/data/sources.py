"""Data by name: a file, a folder or a data set of the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset, ReadInstruction
from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns
from datasets.exceptions import DatasetGenerationError

from .read import READERS, read_all, stream

DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]]

PARQUET = ".parquet"
# Names that `load_dataset` has for formats.
_FORMATS = ("json", "csv", "parquet")
_ASIDE = ("", ".md", ".txt")


def load(
    path: str,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    data_files: DataFiles | None = None,
    split: str = "train",
    columns: Sequence[str] | None = None,
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Load one split, its rows as they are written.

    Args:
        path: A JSON, JSON-lines, CSV or Parquet file, a folder of them, a folder of
            `save_to_disk`, or a data set's id on the hub; json, csv or parquet with `data_files`.
        name: Of the configuration of a data set on the hub.
        data_dir: A folder inside of it.
        data_files: Files inside of it, or of the format that `path` names.
        split: Its name, as `datasets` takes it: `train[:100]` is the first 100 rows. A file has
            the split train; in a folder, names of files and folders say to which they belong.
        columns: The only ones to keep.
        streaming: Whether to read rows when they're needed; else they are in memory or on disk.

    Raises:
        OSError: A file or the hub can't be read.
        ValueError: There is no such file or split, or a line is broken.
    """
    place = str(Path(path).expanduser()) if _is_local(path) else path
    files = _local_files(place, data_files)
    if files is not None:
        _refuse(path, name=name, data_dir=data_dir)
        rows = _from_files(files, split, streaming)
    elif _is_saved(place):
        rows = _from_disk(place, split, streaming)
    else:
        options = {"name": name, "data_dir": data_dir, "data_files": data_files}
        rows = _from_datasets(place, split, streaming, **options)
    return rows if columns is None else rows.select_columns(list(columns))


def _is_local(path: str) -> bool:
    place = Path(path).expanduser()
    written = path.startswith((".", "/", "~")) or path.endswith("/")
    looks = written or place.suffix in (*READERS, PARQUET)
    if looks and not place.exists():
        raise ValueError(f"there is no file or folder {path}. Check its spelling.")
    return place.exists()


def _local_files(path: str, data_files: DataFiles | None) -> dict[str, list[Path]] | None:
    """The files of each split if they are all of formats that are read here."""
    place = Path(path)
    if path in _FORMATS and data_files is not None:
        patterns = sanitize_patterns(data_files)
        if any("://" in pattern for some in patterns.values() for pattern in some):
            return None
        return _resolved(patterns, Path.cwd())
    if place.is_file():
        return {"train": [place]}
    if place.is_dir() and data_files is None and not _is_saved(path):
        return _files_of_folder(place.resolve())
    return None


def _files_of_folder(folder: Path) -> dict[str, list[Path]] | None:
    patterns = get_data_patterns(str(folder))
    found = _resolved({str(split): patterns[split] for split in patterns}, folder)
    data = {
        split: [file for file in files if file.suffix not in _ASIDE]
        for split, files in found.items()
    }
    suffixes = {file.suffix for files in data.values() for file in files}
    return data if suffixes <= {*READERS, PARQUET} else None


def _resolved(patterns: Mapping[str, Any], folder: Path) -> dict[str, list[Path]]:
    found = DataFilesDict.from_patterns(patterns, base_path=str(folder))
    return {split: [Path(file) for file in files] for split, files in found.items()}


def _from_files(files: Mapping[str, Sequence[Path]], split: str, streaming: bool) -> Any:
    kinds = {file.suffix for some in files.values() for file in some}
    if kinds == {PARQUET}:
        named = {part: [str(file) for file in some] for part, some in files.items()}
        return _from_datasets("parquet", split, streaming, data_files=named)
    if not kinds <= set(READERS):
        known = ", ".join([*READERS, PARQUET])
        raise ValueError(
            f"data is in files that end in {known}, all JSON and CSV or all Parquet, got "
            f"{', '.join(sorted(kinds))}. Convert them."
        )
    if streaming:
        return stream(_part(files, split))
    return _sliced({name: read_all(_part(files, name)) for name in _named(split)}, split)


def _from_disk(folder: str, split: str, streaming: bool) -> Dataset | IterableDataset:
    saved = datasets.load_from_disk(folder)
    parts = saved if isinstance(saved, dict) else {"train": saved}
    rows = _sliced({str(part): parts[part] for part in parts}, split)
    return rows.to_iterable_dataset() if streaming else rows


def _part(parts: Mapping[str, Any], split: str) -> Any:
    if split not in parts:
        raise ValueError(f"there is no split {split!r}, only {', '.join(parts)}. Take one of them.")
    return parts[split]


def _sliced(parts: Mapping[str, Dataset], split: str) -> Dataset:
    """What `load_dataset` makes of a split's name, of data that it hasn't loaded."""
    if split in parts:
        return parts[split]
    lengths = {name: len(_part(parts, name)) for name in _named(split)}
    slices = ReadInstruction.from_spec(split).to_absolute(lengths)
    return datasets.concatenate_datasets(
        [parts[part.splitname].select(range(part.from_, part.to)) for part in slices]
    )


def _named(split: str) -> list[str]:
    """The splits that a specification such as train[:10]+test is made of."""
    return list(dict.fromkeys(re.findall(r"(?:^|\+)\s*([\w.-]+)", split)))


def _from_datasets(path: str, split: str, streaming: bool, **options: Any) -> Any:
    try:
        return datasets.load_dataset(path, split=split, streaming=streaming, **options)
    except (DatasetGenerationError, ValueError) as error:
        place = options["data_files"] or path
        raise ValueError(f"can't read {place}: {error.__cause__ or error}") from error


def _is_saved(path: str) -> bool:
    return any(Path(path, name).is_file() for name in ("state.json", "dataset_dict.json"))


def _refuse(path: str, **given: Any) -> None:
    for option, value in given.items():
        if value is not None:
            raise ValueError(f"{option} is of data sets on the hub, but {path} is local.")
