"""What every method is to be held against: greedy, sampling, and the plausibility cutoff alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from contralign.decoding import Decoding, parse

BASELINES = ("greedy", "sample", "cutoff-only")


def with_baselines(decodings: Sequence[Decoding]) -> list[Decoding]:
    """Put those of greedy, sample and cutoff-only that are missing in front."""
    return [*missing_baselines(decodings), *decodings]


def missing_baselines(decodings: Iterable[Decoding]) -> list[Decoding]:
    """Name the baselines that are not among the decodings, whatever their parameters.

    Any search will do for the cutoff alone, which greedy search never notices.
    """
    present = {_baseline(decoding) for decoding in decodings}
    return [one for one in map(parse, BASELINES) if _baseline(one) not in present]


def _baseline(decoding: Decoding) -> tuple[str, Any]:
    return decoding.name, None if decoding.name == "cutoff-only" else decoding.search
