"""Several data sets as one, and a part held out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from align_vlms import picture
from datasets import Dataset, Image, IterableDataset
from trl.scripts.utils import DatasetMixtureConfig, get_dataset

from contralign.align.data import hold_out, load_mixture, normalise


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def text(count: int, start: int = 0) -> list[dict[str, Any]]:
    numbers = range(start, start + count)
    return [{"prompt": f"p{i}", "chosen": f" c{i}", "rejected": f" r{i}"} for i in numbers]


TALK = {
    "prompt": [{"role": "user", "content": "7"}],
    "chosen": [{"role": "assistant", "content": "8"}],
    "rejected": [{"role": "assistant", "content": "9", "name": "Ann"}],
}
IMPLICIT = {"chosen": "The sky is blue", "rejected": "The sky is green"}


def jsonl(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def parquet(file: Path, rows: list[dict[str, Any]]) -> str:
    Dataset.from_list(rows, on_mixed_types=None).to_parquet(file)
    return str(file)


@pytest.mark.parametrize("fractions", [(None, None), (1.0, 3.0), (0.9, 0.1), (0, 1)])
def test_equals_trl(tmp_path: Path, fractions: tuple[float | None, float | None]) -> None:
    parts = []
    for index, fraction in enumerate(fractions):
        file = parquet(tmp_path / f"{index}.parquet", text(5 + index, 10 * index))
        columns = ["prompt", "chosen", "rejected"]
        parts.append(
            {"path": "parquet", "data_files": file, "fraction": fraction, "columns": columns}
        )
    ours = load_mixture(DatasetMixtureConfig(datasets=[dict(part) for part in parts]))
    trl = get_dataset(DatasetMixtureConfig(datasets=[dict(part) for part in parts]))
    assert ours.keys() == trl.keys() == {"train"}
    assert list(ours["train"]) == list(trl["train"])


@pytest.mark.parametrize("streaming", [False, True])
def test_each_row_keeps_its_format(tmp_path: Path, streaming: bool) -> None:
    """Text beside messages beside an implicit prompt, from files of three kinds."""
    files = [
        jsonl(tmp_path / "a.jsonl", text(2)),
        parquet(tmp_path / "b.parquet", [TALK]),
        jsonl(tmp_path / "c.jsonl", [{**TALK, "weight": 2.0}, TALK | {"weight": 3.0}]),
        parquet(tmp_path / "d.parquet", [{**IMPLICIT, "id": 7}]),
    ]
    mixture = DatasetMixtureConfig(datasets=[{"path": file} for file in files], streaming=streaming)
    rows = load_mixture(mixture)["train"]
    assert isinstance(rows, IterableDataset) == streaming

    found = [normalise(row) for row in rows]
    assert [row.pop("weight") for row in found] == [1, 1, 1, 2, 3, 1]
    prompted = {"prompt": "The sky is", "chosen": " blue", "rejected": " green"}
    assert found == [*text(2), TALK, TALK, TALK, prompted]


def test_text_that_looks_like_json_stays_text(tmp_path: Path) -> None:
    row = {"prompt": "7", "chosen": "true", "rejected": '{"a": 1}'}
    files = [jsonl(tmp_path / "a.jsonl", [row]), jsonl(tmp_path / "b.jsonl", [TALK])]
    mixture = DatasetMixtureConfig(datasets=[{"path": file} for file in files])
    assert [normalise(found) for found in load_mixture(mixture)["train"]] == [row, TALK]


def test_margins_are_filled_with_none(tmp_path: Path) -> None:
    rows = [{**text(1)[0], "margin": 0.5}]
    files = [jsonl(tmp_path / "a.jsonl", rows), jsonl(tmp_path / "b.jsonl", text(1))]
    mixture = DatasetMixtureConfig(datasets=[{"path": file} for file in files])
    assert load_mixture(mixture)["train"]["margin"][:] == [0.5, 0.0]


def test_a_part_is_held_out_by_its_seed(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", text(10))
    mixture = DatasetMixtureConfig(datasets=[{"path": file}], test_split_size=0.2)
    first, again, other = (load_mixture(mixture, seed=seed) for seed in (1, 1, 2))
    assert list(first["test"]) == list(again["test"])
    assert list(first["train"]) == list(again["train"])
    assert list(first["test"]) != list(other["test"])

    both = [*first["train"], *first["test"]]
    assert len(first["test"]) == 2
    assert sorted(row["prompt"] for row in both) == [f"p{i}" for i in range(10)]


def test_a_number_of_rows_is_held_out() -> None:
    train, test = hold_out(Dataset.from_list(text(10)), 3.0, seed=0)
    assert (len(train), len(test)) == (7, 3)
    stream = Dataset.from_list(text(10)).to_iterable_dataset()
    train, test = hold_out(stream, 3, seed=0)
    assert (list(test), list(train)) == (text(3), text(7, 3))


@pytest.mark.parametrize(
    ("size", "streaming", "told"),
    [
        (0.0, False, "between 0 and 1 or a number of rows, got 0"),
        (-1, False, "between 0 and 1 or a number of rows, got -1"),
        (2.5, False, "between 0 and 1 or a number of rows, got 2.5"),
        (10, False, "leaves rows to train on, got 10 of 10"),
        (0.5, True, r"no share of it \(0.5\) can be held out"),
    ],
)
def test_refuses_a_size(size: float, streaming: bool, told: str) -> None:
    rows: Any = Dataset.from_list(text(10))
    with pytest.raises(ValueError, match=told):
        hold_out(rows.to_iterable_dataset() if streaming else rows, size, seed=0)


@pytest.mark.parametrize(
    ("fractions", "streaming", "told"),
    [
        ((0.5, None), False, r"or of none, got \[0.5, None\]"),
        ((0.0, 0.0), False, "not all of them 0"),
        ((1.5, -0.5), False, "at least 0"),
        ((0.5, 0.5), True, "a stream has no length"),
    ],
)
def test_refuses_fractions(
    tmp_path: Path, fractions: tuple[float | None, ...], streaming: bool, told: str
) -> None:
    file = jsonl(tmp_path / "a.jsonl", text(2))
    parts = [{"path": file, "fraction": fraction} for fraction in fractions]
    with pytest.raises(ValueError, match=told):
        load_mixture(DatasetMixtureConfig(datasets=parts, streaming=streaming))


def test_refuses_an_empty_mixture() -> None:
    with pytest.raises(ValueError, match="at least one data set, got none"):
        load_mixture(DatasetMixtureConfig())


def test_images_and_their_paths_are_not_mixed(tmp_path: Path) -> None:
    png = io.BytesIO()
    picture().save(png, "png")
    rows = Dataset.from_list([{**text(1)[0], "image": {"bytes": png.getvalue(), "path": None}}])
    rows.cast_column("image", Image()).to_parquet(tmp_path / "a.parquet")
    other = jsonl(tmp_path / "b.jsonl", [{**text(1)[0], "image": "a.png"}])
    files = [str(tmp_path / "a.parquet"), other]
    mixture = DatasetMixtureConfig(datasets=[{"path": file} for file in files])
    with pytest.raises(ValueError, match="the column image holds images in one data set and their"):
        load_mixture(mixture)
