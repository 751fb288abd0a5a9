"""Values of a config file are read as if they had been typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from trl.scripts.utils import DatasetConfig

from contralign.commands.train_file import take_file
from contralign.commands.train_options import parser


def taken(folder: Path, text: str) -> dict[str, Any]:
    """The parser's defaults once it has taken a file."""
    file = folder / "train.yaml"
    file.write_text(text)
    reader = parser("dpo")
    take_file(reader, str(file))
    return vars(reader.parse_args([]))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("learning_rate: 1e-5", 1e-5),  # text to YAML, which wants a point
        ("learning_rate: 1.0e-5", 1e-5),
        ("max_steps: 7", 7),
        ("test_split_size: 4", 4.0),
        ("use_peft: yes", True),
        ("bf16: false", False),
        ("max_length: null", None),
        ("max_length: none", None),
        ("eval_strategy: no", "no"),  # false to YAML
        ("save_strategy: epoch", "epoch"),
        ("lr_scheduler_type: cosine", "cosine"),
        ("loss_type: ipo", ["ipo"]),
        ("loss_type: [ipo]", ["ipo"]),
        ("lora_modules_to_save: lm_head", ["lm_head"]),
        ("report_to: none", "none"),
        ("report_to: [wandb, tensorboard]", ["wandb", "tensorboard"]),
        ("model_init_kwargs: {attn_implementation: eager}", {"attn_implementation": "eager"}),
        ("lr_scheduler_kwargs: {num_cycles: 2}", {"num_cycles": 2}),
        ("model_revision: 2", "2"),
        ("datasets: a.jsonl", [DatasetConfig("a.jsonl")]),
        ("datasets: [a.jsonl, {path: b.csv}]", [DatasetConfig("a.jsonl"), DatasetConfig("b.csv")]),
        (
            "datasets: [{path: json, data_files: a.json, fraction: 0.5, columns: [chosen]}]",
            [DatasetConfig("json", data_files="a.json", fraction=0.5, columns=["chosen"])],
        ),
    ],
)
def test_a_value(tmp_path: Path, line: str, value: Any) -> None:
    found = taken(tmp_path, line)[line.partition(":")[0]]
    assert found == value
    assert type(found) is type(value)


def test_what_the_file_leaves_out_stays(tmp_path: Path) -> None:
    before, after = vars(parser("dpo").parse_args([])), taken(tmp_path, "beta: 0.5")
    assert {name for name in before if before[name] != after[name]} == {"beta"}


def test_words_win(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("beta: 0.5\nloss_type: ipo\n")
    reader = parser("dpo")
    take_file(reader, str(tmp_path / "train.yaml"))
    found = reader.parse_args(["--beta", "0.25"])
    assert (found.beta, found.loss_type) == (0.25, ["ipo"])


def test_variables_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRALIGN_TEST", "before")
    taken(tmp_path, "env: {CONTRALIGN_TEST: 3}")
    assert os.environ["CONTRALIGN_TEST"] == "3"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bata: 0.1", "there is no key 'bata'. Did you mean 'beta'?"),
        ("rpo_alpha: 1.0", "there is no key 'rpo_alpha': RPO's term"),
        ("evaluation_strategy: steps", "'evaluation_strategy': it's called eval_strategy."),
        ("warmup_ratio: 0.1", "it's called warmup_steps: below 1 it's a share of all steps."),
        ("zzz: 1", "there is no key 'zzz'. See contralign train METHOD --help."),
        ("max_steps: ten", "max_steps: invalid int value: 'ten'."),
        ("max_length: 12.5", "max_length: invalid int value: '12.5'."),
        ("beta: true", "beta: invalid float value: 'True'."),
        ("beta: [0.1, 0.2]", "beta takes one value, got [0.1, 0.2]."),
        ("beta: {a: 1}", "beta takes one value, got {'a': 1}."),
        ("dataset_name: [a, b]", "dataset_name takes one value, got ['a', 'b']."),
        ("use_peft: maybe", "use_peft: Truthy value expected: got maybe"),
        ("dtype: float8", "dtype: invalid choice: 'float8' (choose from"),
        ("eval_strategy: often", "eval_strategy: invalid choice: 'often' (choose from 'no',"),
        ("on_problem: ignore", "on_problem: invalid choice: 'ignore' (choose from 'error',"),
        ("loss_type: [{a: 1}]", "loss_type takes one value, got {'a': 1}."),
        ("datasets: [{paht: a.jsonl}]", "datasets: there is no key 'paht'. Did you mean 'path'?"),
        ("datasets: [{split: train}]", "each of datasets has a path, got {'split': 'train'}."),
        ("datasets: [3]", "each of datasets has a path, got 3."),
        ("env: [a]", "env maps names to values, got ['a']."),
        ("- a", "must hold `key: value` lines, got list."),
        ("a: [", "is no YAML file"),
    ],
)
def test_refusals_name_the_file(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"train\.yaml") as refused:
        taken(tmp_path, text)
    assert told in str(refused.value)


def test_a_refused_file_leaves_the_environment_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bata"):
        taken(tmp_path, "env: {CONTRALIGN_ODD: 1}\nbata: 1")
    assert "CONTRALIGN_ODD" not in os.environ
