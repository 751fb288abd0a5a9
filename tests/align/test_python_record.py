"""A run that Python started leaves a file that repeats it, or says what it lacks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from align_runs import LORA, Untold, learned, rows, trainer
from eval_doubles import tiny_llama
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from transformers import BitsAndBytesConfig

from contralign.align.course import digest
from contralign.align.python_record import adapter_settings, quantization_settings
from contralign.align.record import write_settings
from contralign.commands.train_options import load_data, read


@pytest.mark.parametrize(
    "adapter",
    [
        LoraConfig(target_modules="all-linear"),
        LoraConfig(r=4, lora_alpha=3, lora_dropout=0.2, target_modules=["v_proj", "q_proj"]),
        LoraConfig(
            target_modules=r".*\.q_proj", use_dora=True, use_rslora=True, modules_to_save=["a"]
        ),
    ],
)
def test_the_command_line_makes_the_same_adapter(tmp_path: Path, adapter: LoraConfig) -> None:
    found = _read(tmp_path, adapter_settings(adapter)).adapter
    given = {**adapter.to_dict(), "task_type": found.task_type}
    assert found.to_dict() == given


@pytest.mark.parametrize(
    "quantized",
    [
        BitsAndBytesConfig(load_in_4bit=True),
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        ),
        BitsAndBytesConfig(load_in_8bit=True),
    ],
)
def test_the_command_line_loads_in_as_many_bits(
    tmp_path: Path, quantized: BitsAndBytesConfig
) -> None:
    told = {**quantization_settings(quantized), "use_peft": True}
    found = _read(tmp_path, told).quantization.to_dict()
    assert found == {**quantized.to_dict(), "bnb_4bit_compute_dtype": "float32"}


@pytest.mark.parametrize(
    ("told", "key"),
    [
        (adapter_settings(IA3Config()), "peft_config"),
        (adapter_settings(LoraConfig(bias="all")), "peft_config"),
        (
            quantization_settings(BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=3.0)),
            "quantization_config",
        ),
    ],
)
def test_what_no_key_can_say_is_refused_by_the_command_line(
    tmp_path: Path, told: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValueError, match=f"there is no key '{key}'"):
        _read(tmp_path, told)


def test_nothing_is_told_of_what_is_not_there() -> None:
    assert adapter_settings(None) == quantization_settings(None) == {}


def test_with_its_data_named_the_file_repeats_the_run(tmp_path: Path, model_folder: Path) -> None:
    data, given = rows(10), LoraConfig(**LORA)
    run = trainer(
        tmp_path / "run",
        make=Untold,
        model=str(model_folder),
        train_dataset=data,
        peft_config=given,
    )
    run.train()
    file = tmp_path / "run" / "train.yaml"
    head = file.read_text().splitlines()[1]
    assert (
        head == "# It was started in Python, with train_dataset, processing_class: set that first."
    )
    with pytest.raises(ValueError, match="data is either dataset_name or datasets, got neither"):
        read("dpo", ["--config", str(file)])
    data.to_json(tmp_path / "rows.jsonl")
    words = ["--dataset_name", str(tmp_path / "rows.jsonl"), "--output_dir", str(tmp_path / "two")]
    options = read("dpo", ["--config", str(file), *words])
    options.config.model_init_kwargs = options.loading()
    again = Untold(
        options.model.model_name_or_path,
        options.config,
        **load_data(options),
        peft_config=options.adapter,
    )
    again.train()
    assert torch.equal(learned(again), learned(run))


def test_a_dtype_of_torch_is_written_as_the_command_line_reads_it(
    tmp_path: Path, model_folder: Path
) -> None:
    given: dict[str, Any] = {"dtype": torch.bfloat16}
    run = trainer(tmp_path / "run", model=str(model_folder), model_init_kwargs=given)
    write_settings(run.record, run.args, tmp_path)
    words = ["--config", str(tmp_path / "train.yaml"), "--dataset_name", "rows"]
    options = read("dpo", words)
    assert options.model.dtype == "bfloat16"
    assert options.loading()["dtype"] == "bfloat16"


def test_the_command_line_goes_on_with_a_run_of_pythons(tmp_path: Path, model_folder: Path) -> None:
    run = trainer(
        tmp_path,
        make=Untold,
        model=str(model_folder),
        processing_class=None,
        save_strategy="steps",
        save_steps=2,
    )
    run.train()
    rows(10).to_json(tmp_path / "rows.jsonl")
    file = ["--config", str(tmp_path / "train.yaml"), "--resume_from_checkpoint", "true"]
    options = read("dpo", [*file, "--dataset_name", str(tmp_path / "rows.jsonl")])
    assert options.resume is True


def test_the_card_names_rows_that_no_file_holds(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.create_model_card()
    made = f"10 pairs.*; made in memory, fingerprint {digest(run.train_dataset)}"
    assert re.search(f"^- training: {made}$", (tmp_path / "README.md").read_text(), re.M)


@pytest.mark.parametrize("attached", [True, False])
def test_a_model_in_memory_is_said_to_be_one(tmp_path: Path, attached: bool) -> None:
    adapter: PeftConfig = LoraConfig(**LORA)
    model: Any = get_peft_model(tiny_llama(), adapter) if attached else tiny_llama()
    run = trainer(tmp_path, model=model, peft_config=None if attached else adapter)
    assert run.record.missing[0] == "a model in memory"
    assert run.record.settings["lora_r"] == 4
    assert run.record.settings["lora_target_modules"] == ["q_proj", "up_proj", "v_proj"]


def _read(folder: Path, settings: dict[str, Any]) -> Any:
    file = folder / "train.yaml"
    model = {"model_name_or_path": "a/model", "dataset_name": "rows", "output_dir": "out"}
    file.write_text(yaml.safe_dump({**model, "dtype": "float32", **settings}))
    return read("dpo", ["--config", str(file)])
