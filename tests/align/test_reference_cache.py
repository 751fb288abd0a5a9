"""The cache computes each completion once, whatever else of a run changes; another base's, anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from align_models import MODELS, made, ragged, tokens
from align_policies import moved, policy
from torch import Tensor, nn

from contralign.align import reference_cache
from contralign.align.batch import Batch
from contralign.align.engine import Engine
from contralign.align.logps_store import LogpsStore
from contralign.align.reference_cache import CachedReference, default_folder
from contralign.align.reference_keys import completion_keys
from contralign.align.references import SharedReference

BATCH = ragged()


class Counted:
    """A reference that counts what it is asked for."""

    def __init__(self, model: Any) -> None:
        self.inner = SharedReference(Engine(model, "padded"))
        self.batches: list[Batch] = []

    def __call__(self, batch: Batch, *, through: nn.Module | None = None) -> Tensor:
        self.batches.append(batch)
        return self.inner(batch)

    @property
    def scored(self) -> int:
        return sum(len(batch.flat) for batch in self.batches)


def cached(model: Any, folder: Path | None, **options: Any) -> tuple[CachedReference, Counted]:
    counted = Counted(model)
    return CachedReference(counted, model, folder, **options), counted


def fresh() -> Tensor:
    """What the base says, without any cache."""
    return SharedReference(Engine(made(MODELS["llama"]), "padded"))(BATCH)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_cache, "CHECKED", 0)


def test_second_time_nothing_is_computed(tmp_path: Path) -> None:
    reference, counted = cached(policy(), tmp_path)
    first, second = reference(BATCH), reference(BATCH)
    assert torch.allclose(first, fresh(), atol=2e-5)
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert not first[~BATCH.mask].any()
    assert (reference.hits, reference.misses) == (6, 6)
    assert len(counted.batches) == 2  # the second time to see that the machine still agrees


@pytest.mark.usefixtures("unchecked")
def test_another_run_on_the_same_base_reuses_all(tmp_path: Path) -> None:
    first = cached(policy(), tmp_path)[0](BATCH)
    # Another adapter, rank, order, batch size and padding; and full fine-tuning.
    others = [policy(r=2, use_dora=True), policy(target_modules=["o_proj"]), made(MODELS["llama"])]
    moved(others[0])
    for model in others:
        reference, counted = cached(model, tmp_path)
        for i in (2, 0, 1):
            row = Batch(BATCH.prompts[i : i + 1], BATCH.completions[i : i + 1])
            width = row.mask.shape[-1]
            assert torch.equal(reference(row), first[i : i + 1, :, :width])
        assert counted.batches == []
        assert (reference.hits, reference.misses) == (6, 0)


@pytest.mark.usefixtures("unchecked")
def test_only_rows_with_something_new_are_computed(tmp_path: Path) -> None:
    reference, counted = cached(policy(), tmp_path)
    reference(Batch(BATCH.prompts[:1], BATCH.completions[:1]))
    assert torch.allclose(reference(BATCH), fresh(), atol=2e-5)
    changed = [list(BATCH.completions[0]), list(BATCH.completions[1]), list(BATCH.completions[2])]
    changed[1][0] = [*changed[1][0], 3]
    reference(replace(BATCH, completions=changed))
    assert [len(batch) for batch in counted.batches] == [1, 2, 1]
    assert reference.misses == 2 + 4 + 1


@pytest.mark.usefixtures("unchecked")
def test_another_base_or_dtype_computes_anew(tmp_path: Path) -> None:
    cached(policy(), tmp_path)[0](BATCH)
    other = made(MODELS["llama"])
    moved(other, by=0.01)
    for model in (other, policy().to(torch.bfloat16)):
        reference, counted = cached(model, tmp_path)
        reference(BATCH)
        assert counted.scored == 6
    assert len(list(tmp_path.glob("*.sqlite"))) == 3


@pytest.mark.usefixtures("unchecked")
def test_what_is_computed_under_autocast_is_kept_apart(tmp_path: Path) -> None:
    model = policy()
    engine = Engine(model, "padded")
    engine(BATCH)
    inner = SharedReference(engine, autocast=torch.bfloat16)
    rough = CachedReference(inner, model, tmp_path, autocast=torch.bfloat16)
    exact = CachedReference(SharedReference(engine), model, tmp_path)
    assert not torch.equal(rough(BATCH), exact(BATCH))
    with torch.autocast("cpu", torch.bfloat16):
        assert exact.database == rough.database
    assert {rough.misses, exact.misses} == {6}
    assert rough.database.name.endswith("-float32-bfloat16.sqlite")


@pytest.mark.usefixtures("unchecked")
def test_the_same_completion_twice_in_a_batch(tmp_path: Path) -> None:
    reference, counted = cached(policy(), tmp_path)
    twice = Batch([BATCH.prompts[0]] * 2, [BATCH.completions[0]] * 2)
    logps = reference(twice)
    assert torch.equal(logps[0], logps[1])
    assert torch.equal(reference(twice), logps)
    assert len(counted.batches) == 1


@pytest.mark.usefixtures("unchecked")
def test_full_fine_tuning_is_filled_before_training_and_then_only_read(tmp_path: Path) -> None:
    model = made(MODELS["llama"])
    reference, counted = cached(model, tmp_path, lazy=False)
    reference.fill([BATCH, BATCH])
    first = reference(BATCH)
    moved(model)
    assert torch.equal(reference(BATCH), first)
    assert len(counted.batches) == 1
    with pytest.raises(ValueError, match=r"2 completions aren't in the cache.*fill"):
        reference(Batch([[7, 7]], [[[3], [4]]]))
    again, recounted = cached(made(MODELS["llama"]), tmp_path, lazy=False)
    again.fill([BATCH])
    assert recounted.batches == []


def test_a_few_entries_are_computed_again(tmp_path: Path) -> None:
    cached(policy(), tmp_path)[0](BATCH)
    reference, counted = cached(policy(), tmp_path)
    many = [Batch([tokens(4, i)], [[[5], [6]]]) for i in range(20)]
    for batch in (BATCH, *many, BATCH, *many):
        reference(batch)
    # 6 found; 20 rows new; 6 found; 10 rows found, and that's the 32.
    assert counted.scored == 6 + 40 + 6 + 20


@pytest.mark.parametrize("off", [1.0, np.nan])
def test_refuses_what_this_machine_does_not_compute(tmp_path: Path, off: float) -> None:
    reference, _ = cached(policy(), tmp_path)
    reference(BATCH)
    store = LogpsStore(reference.database)
    keys = completion_keys(BATCH)
    kept = store.read({key: len(c) for key, c in zip(keys, BATCH.flat, strict=True)})
    reference.database.unlink()
    store.write({**kept, keys[4]: kept[keys[4]] + np.float32(off)})
    again, _ = cached(policy(), tmp_path)
    with pytest.raises(ValueError, match=r"nats from what this machine computes.*Delete the file"):
        again(BATCH)
    again.database.unlink()
    assert torch.allclose(cached(policy(), tmp_path)[0](BATCH), fresh())


def test_half_precision_may_differ_by_its_rounding(tmp_path: Path) -> None:
    model = policy().to(torch.bfloat16)
    cached(model, tmp_path)[0](BATCH)
    packed = SharedReference(Engine(model, "packed"))
    reference = CachedReference(packed, model, tmp_path)
    reference(BATCH)
    assert reference.hits == 6


def test_what_is_not_a_number_is_not_kept(tmp_path: Path) -> None:
    model = policy()

    def broken(batch: Batch, *, through: nn.Module | None = None) -> Tensor:
        return torch.full(batch.mask.shape, torch.nan)

    reference = CachedReference(broken, model, tmp_path)
    assert reference(BATCH)[BATCH.mask].isnan().all()
    assert torch.allclose(cached(model, tmp_path)[0](BATCH), fresh())


@pytest.mark.usefixtures("unchecked")
def test_a_kill_in_the_middle_keeps_what_was_computed(tmp_path: Path) -> None:
    rows = [Batch([tokens(6, i)], [[tokens(3, i + 50), [5]]]) for i in range(6)]
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path, rows))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    reference, counted = cached(policy(), tmp_path)
    for row in rows:
        reference(row)
    assert (reference.hits, reference.misses) == (6, 6)
    assert counted.scored == 6


def _killed(folder: Path, rows: list[Batch]) -> None:
    reference, counted = cached(policy(), folder)
    for row in rows:
        if len(counted.batches) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        reference(row)


@pytest.mark.usefixtures("unchecked")
def test_two_processes_share_one_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_worker, args=(tmp_path / "cache", tmp_path / str(rank), rank))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    asked = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    # Both compute when either misses something; the one that misses nothing computes one row.
    assert asked == [[3, 1], [1, 3]]
    reference, counted = cached(policy(), tmp_path / "cache")
    for seed in range(2):
        reference(_rows(seed))
    assert counted.batches == []


def _rows(seed: int) -> Batch:
    return ragged(prompts=(5 + seed, 6 + seed, 7 + seed))


def _worker(folder: Path, said: Path, rank: int) -> None:
    meet = f"file://{said.parent}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    reference, counted = cached(policy(), folder)
    # Both have something new, then what the other one has just computed.
    reference(_rows(rank))
    dist.barrier()
    reference(_rows(1 - rank))
    assert [len(batch) for batch in counted.batches] == [3]
    # Now one after the other has something new.
    counted.batches.clear()
    for turn in range(2):
        reference(_rows(2 + turn if turn == rank else 0))
        dist.barrier()
    torch.save([len(batch) for batch in counted.batches], said)
    dist.destroy_process_group()


def test_the_folder_is_the_projects_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "reference"
    reference, _ = cached(policy(), None)
    reference(BATCH)
    assert reference.database.parent == tmp_path / "reference"
    monkeypatch.delenv("CONTRALIGN_CACHE")
    assert default_folder() == Path.home() / ".cache" / "contralign" / "reference"
