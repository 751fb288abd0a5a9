"""Several data sets as one, and a part of it held out; the config keys are TRL's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from datasets import Dataset, Features, Image, IterableDataset, Json
from trl.scripts.utils import DatasetConfig, DatasetMixtureConfig

from .checks import undecoded
from .formats import IMAGES
from .read import as_json
from .sources import load

_NEUTRAL = {"weight": 1.0, "margin": 0.0}


def load_mixture(
    mixture: DatasetMixtureConfig, *, seed: int = 0
) -> dict[str, Dataset | IterableDataset]:
    """Load the data sets of a mixture, put one after the other.

    Like TRL's `get_dataset`, for local files too, and for data in different formats: a row's
    format is its own. Where only some have weights, those of the others are 1, and margins 0.

    Args:
        mixture: The data sets; a fraction is a data set's share, of which as many first rows are
            taken as no data set runs out.
        seed: Of what is held out.

    Returns:
        train, and test if there is a `test_split_size`.

    Raises:
        OSError: Data can't be read.
        ValueError: There is no data set, or fractions that can't be taken.
    """
    if not mixture.datasets:
        raise ValueError("a mixture has at least one data set, got none. Fill in `datasets:`.")
    parts = [_loaded(part, mixture.streaming) for part in mixture.datasets]
    fractions = [part.fraction for part in mixture.datasets]
    if any(fraction is not None for fraction in fractions):
        parts = _shares(parts, fractions, mixture.streaming)
    rows = _joined(parts)
    if mixture.test_split_size is None:
        return {"train": rows}
    train, test = hold_out(rows, mixture.test_split_size, seed)
    return {"train": train, "test": test}


def hold_out(
    dataset: Dataset | IterableDataset, size: float, seed: int
) -> tuple[Dataset | IterableDataset, Dataset | IterableDataset]:
    """Split rows off, the same ones for the same seed.

    Args:
        dataset: All rows.
        size: How many to hold out; below 1, their share. Of a stream, it's the first ones.
        seed: Of the choice, and of the order of both parts.

    Returns:
        The rows to train on, and those held out.

    Raises:
        ValueError: It isn't a part of them, or a share of a stream.
    """
    streaming = isinstance(dataset, IterableDataset)
    share = 0 < size < 1
    if not share and (size < 1 or size != int(size)):
        raise ValueError(
            f"test_split_size is a share between 0 and 1 or a number of rows, got {size}."
        )
    if streaming:
        if share:
            raise ValueError(
                f"a stream doesn't know how long it is, so no share of it ({size}) can be held "
                "out. Give a number of rows, or read it without streaming."
            )
        return dataset.skip(int(size)), dataset.take(int(size))
    rows = len(dataset)
    if not share and size >= rows:
        raise ValueError(
            f"test_split_size leaves rows to train on, got {int(size)} of {rows}. Hold out fewer, "
            "or a share of them, such as 0.1."
        )
    parts = dataset.train_test_split(test_size=size if share else int(size), seed=seed)
    return parts["train"], parts["test"]


def _loaded(part: DatasetConfig, streaming: bool) -> Dataset | IterableDataset:
    return load(
        part.path,
        name=part.name,
        data_dir=part.data_dir,
        data_files=part.data_files,
        split=part.split,
        columns=part.columns,
        streaming=streaming,
    )


def _shares(
    parts: Sequence[Any], fractions: Sequence[float | None], streaming: bool
) -> list[Dataset]:
    if streaming:
        raise ValueError("a stream has no length to take a fraction of. Leave out the fractions.")
    given = [fraction for fraction in fractions if fraction is not None and fraction >= 0]
    if len(given) < len(fractions) or not sum(given):
        raise ValueError(
            "fractions are at least 0, not all of them 0, and of every data set or of none, got "
            f"{list(fractions)}."
        )
    weights = [fraction / sum(given) for fraction in given]
    total = min(len(part) / w for part, w in zip(parts, weights, strict=True) if w)
    return [part.select(range(round(w * total))) for part, w in zip(parts, weights, strict=True)]


def _joined(parts: Sequence[Any]) -> Dataset | IterableDataset:
    """Put data sets one after the other, and fill in the numbers that only some have."""
    names = {name for part in parts for name in _names(part)}
    numbers = {column: value for column, value in _NEUTRAL.items() if column in names}
    if isinstance(parts[0], IterableDataset):
        # Not concatenated: that guesses types from the first rows and gives them to all.
        given = {"parts": [undecoded(part) for part in parts], "numbers": numbers}
        return IterableDataset.from_generator(_chained, gen_kwargs=given)
    for column, value in numbers.items():
        parts = [
            part if column in part.features else part.add_column(column, [value] * len(part))
            for part in parts
        ]
    return datasets.concatenate_datasets(_aligned(parts))


def _aligned(parts: Sequence[Dataset]) -> Sequence[Dataset]:
    """Give columns of one name one type: that of JSON, in which any value stays as it is."""
    for column in {name for part in parts for name in part.features}:
        kinds = [part.features[column] for part in parts if column in part.features]
        if any(kind != kinds[0] for kind in kinds[1:]):
            parts = [_written(part, column) for part in parts]
    return parts


def _chained(parts: Sequence[IterableDataset], numbers: Mapping[str, float]) -> Any:
    for part in parts:
        for row in part:
            yield {**numbers, **row}


def _written(part: Dataset, column: str) -> Dataset:
    if column not in part.features:
        return part
    if column in IMAGES and "Image" in repr(part.features[column]):
        raise ValueError(
            f"the column {column} holds images in one data set and their paths in another. Cast "
            f"it to datasets.{Image.__name__} in all of them."
        )
    return part.map(
        _as_json,
        fn_kwargs={"column": column},
        features=Features({**part.features, column: Json()}),
    )


def _as_json(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {column: as_json(row[column])}


def _names(part: Any) -> list[str]:
    return list(part.column_names or next(iter(part), {}))
