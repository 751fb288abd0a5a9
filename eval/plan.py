"""What a run will do, fixed before it starts: the settings, the key of every answer, the batches.

All of it follows from the arguments, so a second start finds the same keys in the same batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
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
        files = self.decoding.method.digest
        shared = [self.settings, str(self.decoding), *([files] if files else [])]
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
        """Keys by length, longest first: little padding, and memory runs out at once or never.

        Closed asks about the same pictures, which read them once, stay together in a batch of their
        own of up to four times the size; their prompts are short beside what they share.
        """
        keys = sorted(self.firsts, key=lambda key: _size(self.firsts[key].ask), reverse=True)
        size, batches = self.settings["batch_size"], list[list[str]]()
        for key in keys:
            ask = self.firsts[key].ask
            last = batches[-1] if batches else []
            most = size * 4 if _pictures(ask) else size
            if 0 < len(last) < most and _kind(self.firsts[last[0]].ask) == _kind(ask):
                last.append(key)
            else:
                batches.append([key])
        return batches

    def seed(self, key: str) -> int:
        """The seed of a key's sampling noise."""
        return item_seed(self.settings["seed"], self.firsts[key].id)

    def noise_seed(self, key: str) -> int:
        """The seed of the noise that a method draws for a key: its own, or that of its `draw`."""
        draw = self.firsts[key].ask.draw
        return self.seed(key) if draw is None else item_seed(self.settings["seed"], draw)


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
        if item.ask.reading != "text" and len(item.ask.choices) < 2:
            raise ValueError(
                f"row {item.id!r} has the reading {item.ask.reading!r}, which takes one of several "
                f"choices, got {item.ask.choices}. Give it some, or reading='text'."
            )
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
    images = [image_digest(image) for image in ask.images]
    read = [ask.prompt, ask.contrast, ask.choices, ask.max_new_tokens, images]
    # Left out where it changes nothing, so that answers of earlier versions are found again.
    plain = ask.reading == "text" and ask.draw is None
    return _digest(read if plain else [*read, ask.reading, ask.draw])


def image_digest(image: Any) -> str:
    """Digest an image's file or pixels; of a file that can't be read, its name."""
    if isinstance(image, (str, Path)):
        path = Path(image)
        try:
            status = path.stat()
            return _file_digest(path, status.st_mtime_ns, status.st_size)
        except OSError:  # the row's own error, once it is asked
            return f"unreadable {path}"
    return blake2b(
        f"{image.mode} {image.size}".encode() + image.tobytes(), digest_size=16
    ).hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(path: Path, changed: int, size: int) -> str:
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _digest(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(ask: Ask) -> tuple[Any, ...]:
    return (*_kind(ask), len(ask.prompt), len(ask.contrast or ""))


def _kind(ask: Ask) -> tuple[Any, ...]:
    """What all asks of a batch have in common."""
    return ask.max_new_tokens, ask.reading, ask.choices, _pictures(ask)


def _pictures(ask: Ask) -> tuple[str, ...]:
    """The pictures that a closed ask shares with others."""
    return () if ask.reading == "text" else tuple(image_digest(image) for image in ask.images)
