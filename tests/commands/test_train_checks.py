"""What `contralign train dpo` refuses: one line, and before the model is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from train_runs import hollow, pairs, train
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from transformers.utils import is_bitsandbytes_available, is_flash_attn_2_available

from contralign.align.start import UNLISTED

GOOD = {"prompt": "a b", "chosen": " c d", "rejected": " e"}
OPTIONS = [
    # Keys
    ({"bata": 0.1}, "there is no key 'bata'. Did you mean 'beta'?"),
    ({"max_prompt_length": 5}, "'max_prompt_length': max_length bounds prompt and completion"),
    ({"use_liger_kernel": True}, "use_liger_kernel isn't supported, got True: the head is"),
    ({"ld_alpha": 0.5}, "ld_alpha isn't supported, got 0.5: LD-DPO isn't here. Leave it out"),
    ({"ignore_bias_buffers": True}, "ignore_bias_buffers isn't supported"),
    ({"on_problem": "ignore"}, "invalid choice: 'ignore' (choose from 'error', 'drop')."),
    ({"use_peft": "maybe"}, "got maybe but expected one of yes/no"),
    ({"beta": "0.1 0.2"}, "argument --beta: invalid float value: '0.1 0.2'."),
    ({"config": None, "lora_r": 8}, "lora_r says nothing without use_peft: all weights would be"),
    ({"config": None, "use_dora": True}, "use_dora says nothing without use_peft"),
    ({"config": None, "use_rslora": True}, "use_rslora says nothing without use_peft"),
    ({"use_bnb_nested_quant": True}, "use_bnb_nested_quant says nothing without load_in_4bit"),
    ({"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type says nothing without load_in_4bit"),
    # Values
    ({"learning_rate": "nan"}, "learning_rate must be a finite number of at least 0, got nan."),
    ({"learning_rate": -1}, "learning_rate must be a finite number of at least 0, got -1.0."),
    ({"max_grad_norm": "inf"}, "max_grad_norm must be a finite number of at least 0, got inf."),
    ({"beta": -0.1}, "beta must be above 0, got -0.1. Pass a positive number."),
    ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, got 0."),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got 0."),
    ({"lora_r": 0}, "lora_r must be at least 1, got 0."),
    ({"lora_task_type": "SEQ_CLS"}, "lora_task_type isn't supported, got 'SEQ_CLS'"),
    ({"max_length": 1}, "max_length must hold a prompt and a completion, at least 2 tokens, got"),
    ({"attn_implementation": "flahs"}, "attn_implementation is one of eager, "),
    ({"model_init_kwargs": '{"attn_implementation": "flahs"}'}, "got 'flahs'. Left out, it's"),
    ({"report_to": "foo"}, "report_to is none, all, or some of "),
    # What doesn't go together
    ({"loss_type": "ipo", "label_smoothing": 0.1}, "label_smoothing is of loss_type sigmoid"),
    ({"load_best_model_at_end": True}, "load_best_model_at_end compares evaluations, got eval_str"),
    ({"early_stopping_patience": 2}, "early_stopping_patience compares evaluations, got metric"),
    ({"eval_samples": 2}, "eval_samples are drawn at evaluations. Set eval_strategy: steps."),
    ({"eval_strategy": "epoch", "test_split_size": 4, "metric_for_best_model": "rewards/x"},
     "metric_for_best_model is measured by evaluation, got 'rewards/x'. There are: loss, "),
    ({"dataset_streaming": True, "max_steps": -1}, "so max_steps says when to stop, got -1."),
    # What isn't there
    ({"config": None, "model_name_or_path": None}, "starts from a model, got none. Set model_name"),
    ({"model_name_or_path": "./no/model"}, "takes a hub id or a folder, got ./no/model, which"),
    ({"model_name_or_path": "FILE"}, "which is neither."),
    ({"reference": "./no/model"}, "got './no/model', which is no folder."),
    ({"reference": "FILE"}, "which is no folder."),
    ({"output_dir": "FILE"}, "output_dir is a folder to write to, got "),
    ({"output_dir": "FILE/below"}, "isn't one. Choose another."),
    ({"output_dir": ""}, "output_dir is a folder to write to, got '',"),
    ({"resume_from_checkpoint": "true"}, "has no whole checkpoint to resume from. Leave out"),
    ({"resume_from_checkpoint": "no/where"}, "no/where is no whole checkpoint of contralign."),
    # Data
    ({"config": None, "dataset_name": None}, "data is either dataset_name or datasets, got neith"),
    ({"datasets": "a.jsonl"}, "data is either dataset_name or datasets, got both."),
    ({"config": None, "dataset_name": None, "datasets": "FILE", "dataset_streaming": True},
     "dataset_streaming goes with dataset_name, got datasets."),
    ({"streaming": True}, "streaming goes with datasets, got dataset_name. Set dataset_streaming."),
    ({"dataset_name": "no.jsonl"}, "there is no file or folder no.jsonl. Check its spelling."),
    ({"dataset_name": "no/"}, "there is no file or folder no/. Check its spelling."),
    ({"dataset_train_split": "trian"}, "there is no split 'trian', only train."),
    ({"dataset_train_split": "train[:0]"}, "the training data has no row. Check its split."),
    ({"eval_strategy": "epoch"}, "no split 'test', only train. Take one of them. Or hold rows out"),
    ({"config": None, "dataset_name": None, "datasets": "FILE", "eval_strategy": "epoch"},
     "eval_strategy: epoch needs an evaluation set, got none."),
    ({"test_split_size": 30}, "test_split_size leaves rows to train on, got 30 of 20."),
    ({"test_split_size": 1.5}, "test_split_size is a share between 0 and 1 or a number of rows"),
    ({"max_length": 5}, "10 of the 20 rows of the training data can't be trained on: prompt-too-l"),
]  # fmt: skip


@pytest.fixture(scope="module")
def empty(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without weights: only what is refused before it's loaded says something else."""
    return hollow(model_folder, tmp_path_factory.mktemp("models") / "hollow")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert err.startswith("contralign: error: ")
    assert err.count("\n") == 1
    assert out == ""
    return err


@pytest.mark.parametrize(("given", "told"), OPTIONS, ids=lambda value: str(value)[:40])
def test_before_the_model_is_loaded(
    given: dict[str, Any],
    told: str,
    empty: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = pairs(tmp_path)
    options: dict[str, Any] = {
        name: value.replace("FILE", str(file)) if isinstance(value, str) else value
        for name, value in given.items()
    }
    assert train(empty, file, tmp_path / "out", **options) == 2
    assert told in refusal(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    assert train(empty, pairs(tmp_path), tmp_path / "closed" / "out") == 2
    assert "output_dir is a folder to write to" in refusal(capsys)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"chosen": ""}, "empty-completion 1 (row 2)"),
        ({"chosen": None}, "missing-completion 1 (row 2)"),
        ({"chosen": " e"}, "identical 1 (row 2)"),
    ],
)
def test_rows_that_cannot_be_trained_on(
    broken: dict[str, Any],
    told: str,
    empty: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "pairs.jsonl"
    kept = [GOOD, GOOD, {**GOOD, **broken}]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert train(empty, file, tmp_path / "out") == 2
    found = refusal(capsys)
    assert f"1 of the 3 rows of the training data can't be trained on: {told}" in found
    assert (
        "leave them out with on_problem: drop. `contralign data check --method ...` explains each"
        in found
    )


def test_rows_that_cannot_be_trained_on_are_dropped_on_request(
    model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [GOOD, {**GOOD, "chosen": ""}]))
    short = {"on_problem": "drop", "max_steps": 1, "logging_steps": 10}
    assert train(model_folder, file, tmp_path / "out", **short) == 0
    assert "dropped 1 of 2 rows: empty-completion 1 (row 1)" in caplog.text


LOADED = [
    ({"lora_target_modules": "nope_proj"}, "got nope_proj. Its linear layers end in: q_proj, "),
    ({"lora_target_modules": ".*nope"}, "got .*nope. Its linear layers end in: q_proj, k_proj, "),
    ({"lora_modules_to_save": "nope"}, "the adapter's modules to save match no layer of Llama"),
    ({"model_init_kwargs": '{"foo": 1}'}, "got an unexpected keyword argument 'foo'."),
    ({"config": None, "reference": "adapter"}, "but the policy is a LlamaForCausalLM without one."),
]


@pytest.mark.parametrize(("given", "told"), LOADED, ids=lambda value: str(value)[:40])
def test_what_only_the_model_knows(
    given: dict[str, Any],
    told: str,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(model_folder, pairs(tmp_path), tmp_path / "out", **given) == 2
    assert told in refusal(capsys)


@pytest.mark.skipif(is_flash_attn_2_available(), reason="flash-attn is installed")
def test_what_attention_needs(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"attn_implementation": "flash_attention_2"}
    assert train(model_folder, pairs(tmp_path), tmp_path / "out", **options) == 2
    assert "installed. Install it, or choose another attn_implementation." in refusal(capsys)


@pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_what_few_bits_need(
    bits: str, empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(empty, pairs(tmp_path), tmp_path / "out", **{bits: True}) == 2
    assert "load_in_4bit and load_in_8bit need bitsandbytes, which isn't" in refusal(capsys)


def test_what_reporting_needs(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {*UNLISTED, *get_available_reporting_integrations()}
    absent = min(set(INTEGRATION_TO_CALLBACK) - there)
    assert train(empty, pairs(tmp_path), tmp_path / "out", report_to=absent) == 2
    assert f"report_to: {absent} isn't installed. Install it, or " in refusal(capsys)


def test_one_wrong_target_module_of_several_is_refused(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("use_peft: true\nlora_target_modules: [q_proj, v_porj]\nreport_to: none\n")
    assert train(model_folder, pairs(tmp_path), tmp_path / "out", config=file) == 2
    assert "match no layer of LlamaForCausalLM, got v_porj." in refusal(capsys)
