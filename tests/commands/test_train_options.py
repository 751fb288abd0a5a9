"""Options of `contralign train dpo` from a file and from words, and the data that they name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from align_runs import rows
from datasets import Dataset, IterableDataset
from train_runs import DPO, pairs, train

from contralign.align.course import course
from contralign.align.record import all_settings
from contralign.commands.train_options import Options, load_data, read

ROWS = rows(20)
LORA = {"use_peft": True, "lora_target_modules": ["q_proj"], "report_to": "none"}


def written(folder: Path, **settings: Any) -> list[str]:
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump(settings))
    return ["--config", str(file)]


def options(folder: Path, *words: str, **settings: Any) -> Options:
    """Read words and a file that names a model and data."""
    data = {} if "datasets" in settings else {"dataset_name": "pairs.jsonl"}
    named = {"model_name_or_path": "org/model", "output_dir": str(folder / "out"), **data}
    return read("dpo", [*written(folder, **{**named, **settings}), *words])


def test_the_config_of_the_repository(tmp_path: Path) -> None:
    words = ["--config", str(DPO), "--output_dir", str(tmp_path / "out")]
    found = read("dpo", [*words, "--model-name-or-path", "org/model", "--dataset-name=pairs.jsonl"])
    assert (found.model.model_name_or_path, found.script.dataset_name) == (
        "org/model",
        "pairs.jsonl",
    )
    assert (found.model.lora_r, found.adapter.target_modules) == (16, "all-linear")
    assert (found.config.learning_rate, found.config.beta) == (1e-5, 0.1)
    assert (found.config.warmup_steps, found.config.save_total_limit) == (0.1, 2)
    assert found.config.metric_for_best_model == "rewards/accuracies"


@pytest.mark.parametrize("word", ["--learning_rate", "--learning-rate"])
def test_words_win_over_the_file(tmp_path: Path, word: str) -> None:
    assert options(tmp_path, learning_rate=0.25).config.learning_rate == 0.25
    for words in ([word, "0.5"], [f"{word}=0.5"]):
        found = options(tmp_path, *words, learning_rate=0.25, beta=0.3)
        assert (found.config.learning_rate, found.config.beta) == (0.5, 0.3)


def test_dashes_are_underscores_in_what_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'max_prompt_length': max_length bounds prompt and"):
        options(tmp_path, "--max-prompt-length", "5")


def test_a_switch_can_be_turned_by_a_word(tmp_path: Path) -> None:
    assert options(tmp_path, self_check=False).config.self_check is False
    assert options(tmp_path, "--no-self-check").config.self_check is False
    assert options(tmp_path, "--self-check", "true", self_check=False).config.self_check is True


def test_home_is_where_the_model_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    found = options(tmp_path, model_name_or_path="~/mine")
    assert found.model.model_name_or_path == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ("q_proj", {"q_proj"}),
        (["q_proj"], {"q_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        ("all-linear", "all-linear"),
        (".*[qv]_proj", ".*[qv]_proj"),
        (None, None),
    ],
)
def test_target_modules_are_names_or_one_pattern(tmp_path: Path, given: Any, targets: Any) -> None:
    found = options(tmp_path, use_peft=True, lora_target_modules=given)
    assert found.adapter.target_modules == targets


def test_without_use_peft_there_is_no_adapter(tmp_path: Path) -> None:
    found = options(tmp_path)
    assert found.adapter is None
    assert found.quantization is None


def test_four_bits_are_of_the_quantization(tmp_path: Path) -> None:
    found = options(tmp_path, use_peft=True, load_in_4bit=True, use_bnb_nested_quant=True)
    assert found.quantization.load_in_4bit
    assert found.quantization.bnb_4bit_use_double_quant


def test_what_a_model_is_loaded_with(tmp_path: Path) -> None:
    kept = {"model_revision": "v2", "dtype": "bfloat16"}
    words = ["--model_init_kwargs", '{"attn_implementation": "eager", "revision": "v3"}']
    loading = options(tmp_path, *words, **kept).loading()
    assert loading == {"dtype": "bfloat16", "attn_implementation": "eager", "revision": "v3"}
    inside = options(tmp_path, model_init_kwargs={"attn_implementation": "eager"}, **kept)
    assert inside.loading() == {**loading, "revision": "v2"}
    with pytest.raises(ValueError, match="model_init_kwargs is a mapping, got 'eager'"):
        options(tmp_path, model_init_kwargs="eager").loading()


@pytest.mark.parametrize("said", ["true", "True", True])
def test_resuming_is_said_in_a_word(tmp_path: Path, said: Any) -> None:
    checkpoint = tmp_path / "out" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    before = options(tmp_path, output_dir=str(tmp_path / "before"))
    kept = {"course": {"settings": course(all_settings(before.record(()), before.config))}}
    (checkpoint / "journal.json").write_text(json.dumps(kept))
    (checkpoint / "trainer_state.json").write_text("{}")
    assert options(tmp_path, resume_from_checkpoint=said).resume is True
    named = options(tmp_path, "--resume_from_checkpoint", str(checkpoint))
    assert named.resume == str(checkpoint)


def test_not_resuming_is_too(tmp_path: Path) -> None:
    assert options(tmp_path, resume_from_checkpoint=False).resume is None
    assert options(tmp_path).resume is None


def test_a_run_is_remembered_by_what_was_set(tmp_path: Path) -> None:
    found = options(tmp_path, use_peft=True, lora_r=16, dataset_train_split="train[:9]")
    assert found.record(["contralign"]).command == ["contralign"]
    assert found.record([]).settings == {
        "model_name_or_path": "org/model",
        "use_peft": True,
        "dataset_name": "pairs.jsonl",
        "dataset_train_split": "train[:9]",
        "dtype": "float32",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "model_init_kwargs": None,
    }
    assert "lora_r" not in options(tmp_path).record([]).settings


def as_csv(folder: Path) -> Path:
    file = folder / "pairs.csv"
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ROWS.column_names)
        writer.writeheader()
        writer.writerows(ROWS)
    return file


def as_parquet(folder: Path) -> Path:
    ROWS.to_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


def as_sharegpt(folder: Path) -> Path:
    kept = [
        {
            "conversations": [{"from": "human", "value": row["prompt"]}],
            "chosen": {"from": "gpt", "value": row["chosen"]},
            "rejected": {"from": "gpt", "value": row["rejected"]},
        }
        for row in ROWS
    ]
    (folder / "pairs.json").write_text(json.dumps(kept))
    return folder / "pairs.json"


def as_folder(folder: Path) -> Path:
    (folder / "parts").mkdir()
    pairs(folder / "parts")
    return folder / "parts"


@pytest.mark.parametrize("write", [as_csv, as_parquet, as_sharegpt, as_folder, pairs])
@pytest.mark.parametrize("streaming", [False, True])
def test_data_of_any_kind_trains(
    write: Callable[[Path], Path], streaming: bool, model_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    short = {"dataset_streaming": streaming, "max_steps": 1, "logging_steps": 10}
    assert train(model_folder, write(tmp_path), output, **short) == 0
    assert (output / "adapter_model.safetensors").is_file()
    told = (output / "README.md").read_text()
    # A stream is read as far as it's needed.
    assert streaming or "training: 20 pairs" in told


@pytest.mark.parametrize("streaming", [False, True])
def test_a_mixture_trains(streaming: bool, model_folder: Path, tmp_path: Path) -> None:
    parts = [{"path": str(pairs(tmp_path))}, {"path": str(as_csv(tmp_path)), "split": "train"}]
    settings = {"datasets": parts, "streaming": streaming, "test_split_size": 4, **LORA}
    file = written(tmp_path, **settings)[1]
    short = {"eval_strategy": "epoch", "save_strategy": "no", "max_steps": 1, "logging_steps": 10}
    assert train(model_folder, None, tmp_path / "out", config=file, **short) == 0
    recorded = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert [part["path"] for part in recorded["datasets"]] == [part["path"] for part in parts]


def test_rows_are_held_out_of_one_file(tmp_path: Path) -> None:
    given = {"dataset_name": str(pairs(tmp_path)), "test_split_size": 4, "seed": 3}
    found = load_data(options(tmp_path, eval_strategy="epoch", **given))
    held_out, train_rows = found["eval_dataset"], found["train_dataset"]
    assert (len(train_rows), len(held_out)) == (16, 4)
    assert sorted([*train_rows["prompt"], *held_out["prompt"]]) == sorted(ROWS["prompt"])
    again = load_data(options(tmp_path, eval_strategy="epoch", **given))
    assert again["eval_dataset"]["prompt"] == held_out["prompt"]
    others = load_data(options(tmp_path, eval_strategy="epoch", **{**given, "seed": 4}))
    assert others["eval_dataset"]["prompt"] != held_out["prompt"]
    assert load_data(options(tmp_path, **given))["eval_dataset"] is None


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stream_is_read_as_it_is_needed(streaming: bool, tmp_path: Path) -> None:
    data = {"dataset_name": str(pairs(tmp_path)), "dataset_streaming": streaming}
    found = load_data(options(tmp_path, max_steps=1, test_split_size=4, **data))
    assert isinstance(found["train_dataset"], IterableDataset) is streaming


def test_splits_are_taken_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train", 3), ("validation", 2)):
        Dataset.from_list([*ROWS.select(range(count))]).to_json(folder / f"{name}.jsonl")
    given = {"dataset_name": str(folder), "dataset_test_split": "validation"}
    found = load_data(options(tmp_path, eval_strategy="epoch", **given))
    assert [len(found[name]) for name in ("train_dataset", "eval_dataset")] == [3, 2]
    first = load_data(options(tmp_path, dataset_train_split="train[:1]", **given))
    assert [row["prompt"] for row in first["train_dataset"]] == [ROWS[0]["prompt"]]


def test_without_a_test_split_the_message_says_how_to_get_one(tmp_path: Path) -> None:
    given = options(tmp_path, dataset_name=str(pairs(tmp_path)), eval_strategy="epoch")
    with pytest.raises(ValueError, match=r"no split 'test', only train.*with test_split_size"):
        load_data(given)
