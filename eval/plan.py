"""What a run will do, fixed before it starts: the settings, the key of every answer, the batches.

All of it follows from the arguments, so a second start finds the same keys in the same batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import contralign
from contralign.decoding import Decoding

from .ask import Ask, Benchmark, Row
from .sampling import item_seed


@dataclass(frozen=True)
class Item:
    """A row with its ask.

    Attributes:
        id: The row's, unique.
        row: What the benchmark scores with.
        ask: What the model reads.
    """

    id: str
    row: Row
    ask: Ask


@dataclass(frozen=True)
class Plan:
    """Everything one decoding is asked.

    Attributes:
        decoding: The method and the search.
        items: In the benchmark's order.
        settings: What every answer of the run depends on.
    """

    decoding: Decoding
    items: Sequence[Item]
    settings: dict[str, Any]

    @property
    def file_name(self) -> str:
        """The label in characters that every file system takes, without an ending."""
        return re.sub(r"[^\w=.@+-]", "_", self.decoding.label)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Item id -> the key of all that its answer depends on.

        Deterministic searches leave the id out: equal asks have equal keys and are asked once.
        """
        shared = [self.settings, str(self.decoding)]
        sampled = self.decoding.search == "sample"
        return {
            item.id: _digest([*shared, ask_digest(item.ask), item.id if sampled else None])
            for item in self.items
        }

    @cached_property
    def firsts(self) -> dict[str, Item]:
        """Key -> the first item that has it."""
        return {self.keys[item.id]: item for item in reversed(self.items)}

    @cached_property
    def batches(self) -> list[list[str]]:
        """Keys by length, longest first: little padding, and memory runs out at once or never."""
        keys = sorted(self.firsts, key=lambda key: _size(self.firsts[key]), reverse=True)
        size, batches = self.settings["batch_size"], list[list[str]]()
        for key in keys:
            new = self.firsts[key].ask.max_new_tokens
            last = batches[-1] if batches else []
            if 0 < len(last) < size and self.firsts[last[0]].ask.max_new_tokens == new:
                last.append(key)
            else:
                batches.append([key])
        return batches

    def seed(self, key: str) -> int:
        """The seed of a key's sampling noise."""
        return item_seed(self.settings["seed"], self.firsts[key].id)


def load_items(benchmark: Benchmark, limit: int | None) -> list[Item]:
    """Read a benchmark's rows, the first `limit` of them, and what each asks.

    Raises:
        ValueError: No rows, an id twice, or an empty prompt.
    """
    rows = benchmark.load()[:limit]
    if not rows:
        raise ValueError(f"{benchmark.name} has no rows. Check its data and options.")
    items = [Item(row["id"], row, benchmark.ask(row)) for row in rows]
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise ValueError(f"every row has an id of its own, got {item.id!r} twice.")
        seen.add(item.id)
        if not item.ask.prompt.strip():
            raise ValueError(f"row {item.id!r} asks an empty prompt. Repair or remove the row.")
    return items


def settings(
    benchmark: Benchmark, fingerprint: Any, *, limit: int | None, **options: Any
) -> dict[str, Any]:
    """Gather, as JSON values, what every answer of a run depends on besides method and ask."""
    chosen = {field.name: getattr(benchmark, field.name) for field in fields(benchmark)}  # type: ignore[arg-type]
    gathered = {
        "contralign": contralign.__version__,
        "benchmark": {"name": benchmark.name, "version": benchmark.version, "options": chosen},
        "model": dict(fingerprint),
        "limit": limit,
        **options,
    }
    return dict(json.loads(json.dumps(gathered, default=str)))


def ask_digest(ask: Ask) -> str:
    """Digest all that a model reads of an ask, its images' pixels included."""
    images = [_image_digest(image) for image in ask.images]
    return _digest([ask.prompt, ask.contrast, ask.choices, ask.max_new_tokens, images])


def _image_digest(image: Any) -> str:
    if isinstance(image, (str, Path)):
        return blake2b(Path(image).read_bytes(), digest_size=16).hexdigest()
    return blake2b(
        f"{image.mode} {image.size}".encode() + image.tobytes(), digest_size=16
    ).hexdigest()


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(item: Item) -> tuple[int, int, int]:
    ask = item.ask
    return ask.max_new_tokens, len(ask.prompt), len(ask.contrast or "")
