"""What a run is made of, checked before anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from contralign.decoding import Decoding
from contralign.decoding.checks import whole

from .answers import Answer
from .ask import Ask, Benchmark


@runtime_checkable
class Answerer(Protocol):
    """What the runner needs of a model; `LanguageModel` is one."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON values that change whenever an answer could."""
        ...

    def check(self, asks: Sequence[Ask], decoding: Decoding, execution: str) -> None:
        """Raise ValueError for what can't be answered, before anything is."""
        ...

    def answers(
        self,
        asks: Sequence[Ask],
        decoding: Decoding,
        seeds: Sequence[int],
        execution: str,
        noise_seeds: Sequence[int] | None = None,
    ) -> list[Answer]:
        """Answer one batch; an ask that can't be gets an `Answer` with an error."""
        ...


def check_parts(benchmark: object, model: object, output: object) -> None:
    """Refuse what is no benchmark, model or path.

    Raises:
        ValueError: Says what belongs there.
    """
    if isinstance(benchmark, type) or not isinstance(benchmark, Benchmark):
        raise ValueError(f"a benchmark is one such as Counterfacts(), got {benchmark!r:.80}.")
    if isinstance(model, type) or not isinstance(model, Answerer):
        raise ValueError(
            f"a run asks a LanguageModel(model, tokenizer), got a {type(model).__name__}."
        )
    if not isinstance(output, str | Path):
        raise ValueError(f"output is the path of a folder, got {output!r:.80}.")


def check_arguments(
    decodings: Sequence[Decoding], limit: int | None, batch_size: int, seed: int
) -> None:
    """Refuse ways to decode and numbers that no run can follow.

    Raises:
        ValueError: Says what belongs there.
    """
    listed = isinstance(decodings, Sequence) and not isinstance(decodings, str)
    if not (listed and all(isinstance(one, Decoding) for one in decodings)):
        raise ValueError(
            f"a run takes decodings, got {decodings!r:.80}. Make them of their names: "
            "parse_list('greedy,cad')."
        )
    if not decodings:
        raise ValueError("a run needs at least one decoding, got none. Pass [parse('greedy')].")
    names = [str(decoding) for decoding in decodings]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"each decoding is run once, got {', '.join(repeated)} more than once.")
    whole("batch_size", batch_size, 1)
    whole("seed", seed, 0)
    if limit is not None:
        whole("limit", limit, 1)
