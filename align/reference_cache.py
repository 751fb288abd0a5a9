"""Log-probs of the reference, computed once and kept on disk.

An entry is found by what its log-probs depend on and nothing else: the base weights, PEFT or not,
with their architecture; the dtype that computes; the tokens of prompt and completion; the images.
Learning rate, output folder, batch size and the policy's adapter don't matter. Each pair of weights
and dtype has a database of its own, which processes may share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .batch import Batch
from .engine import FLOAT32_TOLERANCE, HALF_TOLERANCE, on_any_process
from .logps_store import LogpsStore
from .paths import part
from .reference_keys import completion_keys, weights_digest
from .support import language_model

CHECKED = 32  # entries that are computed once more when their database is first used; ours

Entries = Mapping[bytes, np.ndarray]


def default_folder() -> Path:
    """Where log-probs are kept: in the folder of `CONTRALIGN_CACHE`, else `~/.cache/contralign`."""
    root = os.environ.get("CONTRALIGN_CACHE") or Path.home() / ".cache" / "contralign"
    return Path(root) / "reference"


class CachedReference:
    """Looks log-probs up, and computes those that are missing.

    Args:
        compute: The reference itself.
        model: Whose base weights they are; they are read once, whole.
        folder: Of the databases; None is `default_folder()`.
        autocast: What `compute` autocasts to, or None.
        lazy: Whether `compute` gives the same at any time, so that a miss is filled when it comes;
            else only `fill` computes.

    Attributes:
        hits: Completions that were found so far.
        misses: Completions that weren't.

    Raises:
        ValueError: The weights aren't all here to be read.
    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        model: nn.Module,
        folder: Path | None = None,
        *,
        autocast: torch.dtype | None = None,
        lazy: bool = True,
    ) -> None:
        self.hits = self.misses = 0
        self._compute, self._model, self._lazy = compute, model, lazy
        self._autocast = autocast
        self._folder = folder or default_folder()
        self._weights = weights_digest(model)
        self._unchecked: dict[str, int] = {}

    def __call__(
        self, batch: Batch, *, through: nn.Module | None = None
    ) -> Float[Tensor, "prompts k tokens"]:
        """Score a batch, like every `Reference`.

        Of several processes each makes as many calls, as a split model computes on all or on none.

        Raises:
            OSError: The database can't be read or written.
            ValueError: A completion is missing and can't be computed any more, or what is stored
                isn't what this machine computes.
        """
        return self._scored(batch, through, computing=self._lazy)

    def place(self, prepare: Callable[[nn.Module], nn.Module]) -> None:
        """Nothing to place: the weights are the policy's."""

    def fill(self, batches: Iterable[Batch], *, through: nn.Module | None = None) -> None:
        """Compute what is missing before the first update, while the policy still is its base.

        Args:
            batches: All that will be looked up; of several processes each has as many.
            through: See `Reference`.

        Raises:
            OSError: The database can't be read or written.
            ValueError: What is stored isn't what this machine computes.
        """
        for batch in batches:
            self._scored(batch, through, computing=True)

    @property
    def database(self) -> Path:
        """The file for these weights and what computes with them now."""
        return self._folder / f"{self._weights}-{self._dtype}.sqlite"

    @property
    def _dtype(self) -> str:
        weights = str(language_model(self._model).dtype).removeprefix("torch.")
        kind, computes = self._device.type, self._autocast
        if computes is None and torch.is_autocast_enabled(kind):
            computes = torch.get_autocast_dtype(kind)
        return weights if computes is None else f"{weights}-{computes}".replace("torch.", "")

    @property
    def _device(self) -> torch.device:
        device: torch.device = language_model(self._model).get_output_embeddings().weight.device
        return device

    def _scored(self, batch: Batch, through: nn.Module | None, *, computing: bool) -> Tensor:
        store = LogpsStore(self.database)
        keys = completion_keys(batch)
        lengths = map(len, batch.flat)
        found = store.read(dict(zip(keys, lengths, strict=True)))
        missing = [key for key in keys if key not in found]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if computing:
            doubtful = self._to_check(found)
            fresh = self._fresh(batch, keys, {*missing, *doubtful}, through)
            self._check({key: found[key] for key in doubtful}, fresh)
            new = {key: fresh[key] for key in missing}
            if new:
                store.write({key: x for key, x in new.items() if not np.isnan(x).any()})
            found |= new
        elif missing:
            raise self._unfilled(len(missing))
        flat = torch.from_numpy(np.concatenate([found[key] for key in keys]))
        mask = batch.mask
        return torch.zeros(mask.shape).masked_scatter(mask, flat).to(self._device)

    def _fresh(
        self, batch: Batch, keys: Sequence[bytes], wanted: set[bytes], through: nn.Module | None
    ) -> dict[bytes, np.ndarray]:
        """Compute at least the wanted ones, on every process if any of them wants some."""
        rows = sorted({i // batch.k for i, key in enumerate(keys) if key in wanted})
        if not on_any_process(bool(rows), self._device):
            return {}
        rows = rows or [0]
        some = part(batch, rows)
        logps = self._compute(some, through=through)
        flat = logps[some.mask.to(logps.device)].float().cpu().numpy()
        ends = np.cumsum([len(completion) for completion in some.flat])
        computed = [key for row in rows for key in keys[row * batch.k : (row + 1) * batch.k]]
        return dict(zip(computed, np.split(flat, ends[:-1]), strict=True))

    def _to_check(self, found: Entries) -> list[bytes]:
        """Those of the found entries that are computed again."""
        left = self._unchecked.get(self._dtype, CHECKED)
        chosen = list(found)[:left]
        self._unchecked[self._dtype] = left - len(chosen)
        return chosen

    def _check(self, stored: Entries, fresh: Entries) -> None:
        exact = self._dtype == "float32"
        tolerance = FLOAT32_TOLERANCE if exact else HALF_TOLERANCE
        for key, value in stored.items():
            apart = np.abs(value - fresh[key])
            worst = float(apart.max() if exact else apart.mean())
            if not worst <= tolerance:
                raise ValueError(
                    f"log-probs in {self.database} are {worst:.2g} nats from what this machine "
                    f"computes, more than {tolerance}. Delete the file to compute them anew."
                )

    def _unfilled(self, count: int) -> ValueError:
        return ValueError(
            f"{count} completions aren't in the cache, and with full fine-tuning the base is gone "
            "once training has begun. A trainer fills the cache before that: start anew, bring "
            f"{self.database} back, or set reference: base."
        )
