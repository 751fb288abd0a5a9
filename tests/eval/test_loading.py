"""Folders that hold something else than what they are named for."""

from __future__ import annotations

from pathlib import Path

import pytest
from eval_doubles import tiny_llama
from peft import LoraConfig, get_peft_model

from contralign.eval.loading import check_names


@pytest.fixture
def adapter(tmp_path: Path, model_folder: Path) -> Path:
    folder = tmp_path / "adapter"
    get_peft_model(tiny_llama(), LoraConfig(target_modules="all-linear")).save_pretrained(folder)
    return folder


def test_a_model_and_its_adapter_pass(model_folder: Path, adapter: Path) -> None:
    check_names(str(model_folder), None)
    check_names(str(model_folder), str(adapter))


def test_names_are_refused_before_weights_are_read(
    model_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    absent = str(tmp_path / "absent")
    projections = tmp_path / "projections"
    projections.mkdir()
    (projections / "projections.safetensors").touch()
    dcd = f"neither a model nor an adapter. .* --method dcd:path={projections}"
    for name, on_top, complaint in (
        (str(adapter), None, "holds an adapter, not a model. Name its base"),
        (str(tmp_path), None, "a model's folder holds a config.json"),
        (str(projections), None, dcd),
        (str(model_folder), str(projections), dcd),
        (str(model_folder), absent, f"but {absent} can't be read as either"),
        (str(model_folder), str(model_folder), "holds a whole model, not an adapter"),
        ("nobody/nothing", None, "but nobody/nothing can't be read as either"),
    ):
        with pytest.raises(ValueError, match=complaint):
            check_names(name, on_top)


def test_a_revision_is_of_the_hub(model_folder: Path) -> None:
    with pytest.raises(ValueError, match="got revision v2 of the folder"):
        check_names(str(model_folder), None, "v2")
