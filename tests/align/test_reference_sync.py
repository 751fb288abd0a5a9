"""TR-DPO: the reference moves towards the policy by the given share, and survives a restart."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy, trained
from torch import Tensor
from trl.trainer.callbacks import SyncRefModelCallback

from contralign.align.engine import Engine
from contralign.align.reference_sync import FILE, ReferenceSync
from contralign.align.references import Reference, make_reference

BATCH = ragged()
ADAPTERS = [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}]


def started(kind: str, model: Any, alpha: float = 0.6, steps: int = 1) -> tuple[Any, ReferenceSync]:
    reference = make_reference(kind, Engine(model, "padded"))
    return reference, ReferenceSync(reference, model, alpha=alpha, steps=steps)


def scored(model: Any) -> Tensor:
    with torch.no_grad():
        return Engine(model.eval(), "padded")(BATCH).logps


def named(model: Any, adapter: str) -> dict[str, Tensor]:
    return {
        name.replace(f".{adapter}", ""): parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if f".{adapter}" in name
    }


@pytest.mark.parametrize("options", ADAPTERS)
def test_mixes_an_adapters_weights(options: dict[str, Any]) -> None:
    model = policy(**options)
    _, sync = started("adapter", model, alpha=0.25)
    before = named(model, "reference")
    moved(model)
    free, ours = trained(model), named(model, "default")
    sync.mix()
    after = named(model, "reference")
    assert after.keys() == ours.keys() == before.keys()
    for name, value in after.items():
        assert torch.allclose(value, 0.75 * before[name] + 0.25 * ours[name], atol=1e-6)
        assert torch.equal(named(model, "default")[name], ours[name])
    assert trained(model) == free


@pytest.mark.parametrize("kind", ["adapter", "base"])
def test_the_hard_update_is_the_policy(kind: str) -> None:
    model = policy() if kind == "adapter" else made(MODELS["llama"])
    reference, sync = started(kind, model, alpha=1.0)
    start = scored(model)
    moved(model)
    assert torch.allclose(reference(BATCH), start, atol=2e-5)
    sync.mix()
    assert torch.allclose(reference(BATCH), scored(model), atol=2e-5)
    assert not torch.allclose(reference(BATCH), start, atol=1e-2)


def test_equals_trl_on_full_fine_tuning() -> None:
    model, theirs = made(MODELS["llama"]), made(MODELS["llama"])
    reference, sync = started("base", model, alpha=0.3)
    for seed in range(3):
        moved(model, seed=seed)
        sync.mix()
        SyncRefModelCallback._sync_target_model(model, theirs, 0.3)
    ours = dict(reference.engine.model.named_parameters())
    for name, value in theirs.named_parameters():
        assert torch.allclose(ours[name], value, atol=1e-6)


def test_mixes_every_so_many_updates() -> None:
    model = policy()
    _, sync = started("adapter", model, alpha=1.0, steps=3)
    mixed = []
    for step in range(1, 8):
        moved(model, seed=step)
        before = named(model, "reference")
        sync.on_step_end(None, SimpleNamespace(global_step=step), None)
        after = named(model, "reference")
        mixed += [step] * (not all(torch.equal(before[name], after[name]) for name in before))
    assert mixed == [3, 6]


@pytest.mark.parametrize("kind", ["adapter", "base"])
def test_goes_on_after_a_restart(kind: str, tmp_path: Path) -> None:
    build = policy if kind == "adapter" else lambda: made(MODELS["llama"])
    model = build()
    reference, sync = started(kind, model)
    moved(model)
    sync.mix()
    sync.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    resumed, again = started(kind, build())
    again.load(tmp_path)
    assert torch.equal(resumed(BATCH), reference(BATCH))


def test_refuses_a_checkpoint_without_or_with_another_reference(tmp_path: Path) -> None:
    _, sync = started("adapter", policy())
    with pytest.raises(OSError, match=r"holds no reference\.safetensors"):
        sync.load(tmp_path)
    started("adapter", policy(r=2))[1].save(tmp_path)
    with pytest.raises(ValueError, match="is of another model"):
        sync.load(tmp_path)


@pytest.mark.parametrize("kind", ["base", "cached", "none"])
def test_refuses_a_reference_that_cannot_move(kind: str, tmp_path: Path) -> None:
    model = policy()
    reference: Reference | None = make_reference(kind, Engine(model), cache=tmp_path)
    with pytest.raises(ValueError, match="needs a reference with weights that can move"):
        ReferenceSync(reference, model, alpha=0.6, steps=512)


def test_refuses_a_reference_of_another_shape(tmp_path: Path) -> None:
    policy(r=2).save_pretrained(tmp_path / "adapter")
    model = policy()
    for name in (made(MODELS["qwen3"]), made(MODELS["llama"])):
        with pytest.raises(ValueError, match="but policy and reference differ"):
            ReferenceSync(make_reference(name, Engine(model)), model, alpha=0.6, steps=512)


def test_refuses_weights_that_were_split_since() -> None:
    model = policy()
    _, sync = started("adapter", model)
    sync.on_train_begin(None, None, None)
    next(iter(model.parameters())).ds_id = 0  # as DeepSpeed ZeRO-3 marks them
    with pytest.raises(ValueError, match="ZeRO-3 has split them"):
        sync.on_train_begin(None, None, None)


@pytest.mark.parametrize(("alpha", "steps"), [(0.0, 1), (1.1, 1), (math.nan, 1), (0.5, 0)])
def test_refuses_shares_and_steps_out_of_range(alpha: float, steps: int) -> None:
    with pytest.raises(ValueError, match="ref_model_"):
        started("adapter", policy(), alpha, steps)
