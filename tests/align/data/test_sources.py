"""Data by name, offline: files, folders and what other libraries saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from align_vlms import picture
from datasets import Dataset, DatasetDict
from PIL import Image

from contralign.align.data import load


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    texts = range(start, start + count)
    return [{"prompt": f"p{i}", "chosen": f" c{i}", "rejected": f" r{i}"} for i in texts]


def written(file: Path, some: Sequence[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        Dataset.from_list(list(some)).to_parquet(file)
    elif file.suffix == ".csv":
        Dataset.from_list(list(some)).to_csv(file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(some))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in some))
    return file


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_loads_a_file(tmp_path: Path, suffix: str, streaming: bool) -> None:
    file = written(tmp_path / f"a{suffix}", rows(3))
    found = load(str(file), streaming=streaming)
    assert isinstance(found, Dataset) == (not streaming)
    assert list(found) == rows(3)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[:2]", [0, 1]),
        ("train[-1:]", [3]),
        ("train[50%:]", [2, 3]),
        ("train[:1]+train[3:]", [0, 3]),
    ],
)
def test_takes_slices(tmp_path: Path, suffix: str, split: str, expected: list[int]) -> None:
    file = written(tmp_path / f"a{suffix}", rows(4))
    assert list(load(str(file), split=split)) == [rows(4)[i] for i in expected]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folders_files_say_to_which_split_they_belong(
    tmp_path: Path, suffix: str, streaming: bool
) -> None:
    folder = tmp_path / "data"
    written(folder / f"train-0{suffix}", rows(2))
    written(folder / f"train-1{suffix}", rows(2, 2))
    written(folder / f"test{suffix}", rows(1, 4))
    (folder / "README.md").write_text("About it.")
    assert list(load(str(folder), streaming=streaming)) == rows(4)
    assert list(load(str(folder), split="test", streaming=streaming)) == rows(1, 4)


def test_files_of_a_format_by_its_name(tmp_path: Path) -> None:
    """As TRL's mixtures have it: path: json, data_files: ..."""
    files = [str(written(tmp_path / f"{i}.jsonl", rows(1, i))) for i in range(2)]
    assert list(load("json", data_files=files)) == rows(2)
    assert list(load("json", data_files=str(tmp_path / "*.jsonl"))) == rows(2)
    named = {"train": files[0], "test": files[1]}
    assert list(load("json", data_files=named, split="test")) == rows(1, 1)
    parquet = written(tmp_path / "a.parquet", rows(2))
    assert list(load("parquet", data_files=str(parquet))) == rows(2)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_datasets_saved_is_loaded(tmp_path: Path, streaming: bool) -> None:
    one = Dataset.from_list(rows(2))
    one.save_to_disk(tmp_path / "one")
    DatasetDict({"train": one, "test": one.select([1])}).save_to_disk(tmp_path / "two")
    assert list(load(str(tmp_path / "one"), streaming=streaming)) == rows(2)
    assert list(load(str(tmp_path / "two"), split="test", streaming=streaming)) == rows(1, 1)


def test_a_folder_of_something_else_is_left_to_datasets(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    written(tmp_path / "metadata.jsonl", [{**rows(1)[0], "file_name": "a.png"}])
    (row,) = load(str(tmp_path))
    assert isinstance(row.pop("image"), Image.Image)
    assert row == rows(1)[0]


def test_only_some_columns(tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", [{**row, "id": 1} for row in rows(2)])
    assert list(load(str(file), columns=["prompt", "chosen", "rejected"])) == rows(2)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    for count in (2, 3):
        for suffix in (".jsonl", ".parquet"):
            file = written(tmp_path / f"a{suffix}", rows(count))
            assert len(load(str(file))) == count


def test_other_names_are_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def load_dataset(path: str, **options: Any) -> Dataset:
        asked.update(path=path, **options)
        return Dataset.from_list(rows(1))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(load("org/pairs", name="en", split="test", streaming=True)) == rows(1)
    assert asked == {
        "path": "org/pairs",
        "name": "en",
        "data_dir": None,
        "data_files": None,
        "split": "test",
        "streaming": True,
    }
    load("json", data_files="https://example.org/a.jsonl")
    assert asked["path"] == "json"


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("b.jsonl", {}, r"there is no file or folder .*b\.jsonl"),
        ("b", {}, r"there is no file or folder .*b"),
        ("a.jsonl", {"split": "test"}, "there is no split 'test', only train"),
        ("a.jsonl", {"split": "test", "streaming": True}, "there is no split 'test', only train"),
        ("a.jsonl", {"split": "train+dev"}, "there is no split 'dev', only train"),
        ("a.jsonl", {"name": "en"}, "name is of data sets on the hub, but .* is local"),
        ("a.txt", {}, r"files that end in \.json, .*, got \.txt"),
        ("mixed", {}, r"all JSON and CSV or all Parquet, got \.jsonl, \.parquet"),
        ("broken.parquet", {}, r"can't read .*broken\.parquet.*: Parquet magic"),
    ],
)
def test_refuses(tmp_path: Path, name: str, options: dict[str, Any], told: str) -> None:
    for good in ("a.jsonl", "a.txt", "mixed/a.jsonl", "mixed/b.parquet"):
        written(tmp_path / good, rows(1))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=told):
        load(str(tmp_path / name), **options)
