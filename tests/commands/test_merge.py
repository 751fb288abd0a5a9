"""`contralign merge`."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from contralign.cli import main


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(
        tmp_path / "adapter"
    )
    return tmp_path / "adapter"


def test_writes_a_model_and_says_where(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "merged"
    words = ["--adapter", str(adapter), "--output", str(output), "--dtype", "bfloat16"]
    assert main(["merge", *words]) == 0
    assert capsys.readouterr().out == f"Merged model: {output}\n"
    assert AutoModelForCausalLM.from_pretrained(output).dtype.itemsize == 2


def test_takes_its_options_from_a_file(adapter: Path, tmp_path: Path) -> None:
    config = tmp_path / "merge.yaml"
    config.write_text(f"adapter: {adapter}\noutput: {tmp_path / 'merged'}\n")
    assert main(["merge", "--config", str(config)]) == 0
    assert (tmp_path / "merged" / "config.json").is_file()


def test_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "--adapter", str(tmp_path), "--output", str(tmp_path / "merged")]) == 2
    assert "holds no adapter_config.json" in capsys.readouterr().err
