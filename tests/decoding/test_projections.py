"""Projections in a folder: written and read back, and held against the model they are for."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from projected import VARIANTS, drawn, folder
from safetensors.torch import load_file, save_file
from vlms import family

from contralign.decoding.projections import CONFIG, WEIGHTS, Base, Projections, load

MODEL = family("LLaVA-1.5")[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_read_is_what_was_written(variant: str) -> None:
    where = folder(MODEL, variant)
    read = load(where)
    assert sorted(path.name for path in where.iterdir()) == [CONFIG, WEIGHTS]
    assert read.variant == variant
    assert read.base == Base.of(MODEL)
    for name, value in drawn(MODEL, "negative").items():
        assert torch.equal(read.negative[name], value)
    assert (read.positive is None) == (variant == "neg_only")
    assert load(where) is read


def test_a_folder_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    base, values = Base.of(MODEL), drawn(MODEL, "negative")
    Projections(base, values).save(tmp_path)
    first = load(tmp_path)
    Projections(base, values, drawn(MODEL, "positive"), {"steps": 3}).save(tmp_path)
    assert (first.variant, load(tmp_path).variant) == ("neg_only", "pos_neg")
    assert load(tmp_path).told == {"steps": 3}


def renamed(model: Any, name: str) -> Any:
    other = copy.deepcopy(model)
    other.name_or_path = name
    return other


@torch.no_grad()
def test_a_model_fits_by_its_shapes_and_by_its_name_or_its_values() -> None:
    named = renamed(MODEL, "base")
    saved = Projections(Base.of(named), drawn(MODEL, "negative"))
    saved.check(named)
    saved.check(renamed(MODEL, "aligned"))
    saved.check(copy.deepcopy(named).bfloat16())
    saved.check(renamed(MODEL, "aligned").to(torch.bfloat16))
    tuned = copy.deepcopy(named)
    tuned.model.multi_modal_projector.linear_1.weight.mul_(2)
    saved.check(tuned)
    with pytest.raises(ValueError, match="are of base, got other: its projector has other values"):
        saved.check(renamed(tuned, "other"))
    wide = renamed(MODEL, "base")
    wide.model.multi_modal_projector.linear_1 = torch.nn.Linear(32, 40)
    with pytest.raises(ValueError, match=r"has the shape \[40, 32\], saved is \[32, 32\]"):
        saved.check(wide)


def broken(folder: Path, config: dict[str, Any] | None, tensors: dict[str, Any] | None) -> None:
    if config is not None:
        (folder / CONFIG).write_text(json.dumps(config))
    if tensors is not None:
        save_file(tensors, folder / WEIGHTS)


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    Projections(Base.of(MODEL), drawn(MODEL, "negative")).save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    tensors = load_file(tmp_path / WEIGHTS)
    broken(tmp_path, {**config, "variant": "pos_neg"}, None)
    with pytest.raises(ValueError, match="no whole projections"):
        load(tmp_path)
    broken(tmp_path, config, dict(list(tensors.items())[1:]))
    with pytest.raises(ValueError, match="no whole projections"):
        load(tmp_path)
    broken(tmp_path, {"model_type": "llava"}, tensors)
    with pytest.raises(ValueError, match="holds no projections: 'base_model'"):
        load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"?")
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds no projections"):
        load(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load(tmp_path)
