"""A run's settings as a file that starts the same run again, and that holds no secret."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import DPOConfig as TRLConfig

import contralign
from contralign.align.config import DPOConfig
from contralign.align.record import (
    ALWAYS,
    NEVER,
    PACKAGES,
    SETTINGS,
    Record,
    all_settings,
    censored,
    plain,
    versions,
    write_settings,
)
from contralign.align.record import settings as chosen
from contralign.commands.train_options import Options, read

MODEL = ("--model_name_or_path", "a/model", "--dataset_name", "some data.jsonl")


def asked(folder: Path | str, *words: str) -> Options:
    return read("dpo", [*MODEL, "--output_dir", str(folder), *words])


def written(options: Options, folder: Path | str, command: list[str] | None = None) -> str:
    write_settings(options.record(command or []), options.config, Path(folder))
    return (Path(folder) / SETTINGS).read_text("utf-8")


def compared(options: Options) -> dict[str, Any]:
    """Every key but those that aren't written, and those that are another's second name."""
    parts = (options.config, options.model, options.script, options.mixture)
    held = {key: value for part in parts for key, value in plain(part).items()}
    aliases = {"activation_checkpointing", "activation_checkpointing_kwargs", "do_eval"}
    return {key: value for key, value in held.items() if key not in NEVER - aliases}


def run_again(folder: Path | str) -> Options:
    return read("dpo", ["--config", str(Path(folder) / SETTINGS)])


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--use_cpu true --report_to none --seed 7 --data_seed 8 --max_steps 3 --optim adamw_torch",
        "--loss_type ipo_sum --beta 0.3 --reference cached --log_prob_path padded",
        "--precompute_ref_log_probs true --padding_free true --max_length 64",
        "--use_peft true --lora_r 4 --lora_target_modules q_proj v_proj --dtype bfloat16",
        "--gradient_checkpointing false --bf16 true --use_cpu true --warmup_steps 0.1",
        '--gradient_checkpointing_kwargs {"use_reentrant":false} --adam_beta2 0.95',
        '--accelerator_config {"split_batches":true} --model_init_kwargs {"revision":"v2"}',
        "--eval_strategy steps --eval_steps 5 --save_steps 5 --load_best_model_at_end true "
        "--metric_for_best_model rewards/margins --early_stopping_patience 2 --eval_samples 1",
        '--lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs {"min_lr":1e-8}',
        "--push_to_hub true --hub_model_id a/b --hub_private_repo true --save_strategy no",
        "--disable_tqdm true --logging_steps 0.25 --label_smoothing 0.1 --on_problem drop",
    ],
)
def test_the_file_gives_the_same_options_to_the_command_line(tmp_path: Path, words: str) -> None:
    first = asked(tmp_path / "out", *words.split())
    written(first, tmp_path)
    assert compared(run_again(tmp_path)) == compared(first)


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.floats(1e-12, 10),
    "beta": st.floats(1e-3, 1e3),
    "logging_steps": st.integers(1, 10_000) | st.floats(0.01, 0.99),
    "max_length": st.integers(2, 10**6),
    "weight_decay": st.floats(0, 1),
    "seed": st.integers(0, 2**31),
    "run_name": st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1).filter(
        lambda text: not text.startswith(("-", "{"))
    ),
    "eval_samples": st.integers(0, 9),
    "disable_dropout": st.booleans(),
    "gradient_checkpointing": st.booleans(),
    "report_to": st.just("none"),
}


@settings(max_examples=25)
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_any_values_come_back_as_they_were(drawn: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        words = [word for name, value in drawn.items() for word in (f"--{name}", str(value))]
        first = asked(folder, *words)
        written(first, folder)
        assert compared(run_again(folder)) == compared(first)


def test_the_file_says_how_to_use_it_and_where_it_came_from(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    text = written(asked(folder), tmp_path, ["contralign", "train", "dpo", "--run_name", "a b"])
    lines = text.splitlines()
    assert lines[0] == f"# contralign train dpo --config '{folder / SETTINGS}'"
    assert lines[1] == "# Written by: contralign train dpo --run_name 'a b'"
    assert lines[2] == "# With: " + ", ".join(f"{name} {n}" for name, n in versions().items())
    assert "# Written by" not in written(asked(folder), tmp_path)


def test_model_and_data_come_first(tmp_path: Path) -> None:
    held = yaml.safe_load(written(asked(tmp_path / "out", "--use_peft", "true"), tmp_path))
    assert list(held)[:3] == ["model_name_or_path", "use_peft", "dataset_name"]


SECRET = "hf_abcdefghij"


@pytest.mark.parametrize(
    "words",
    [
        ["--hub_token", SECRET],
        [f"--hub-token={SECRET}"],
        ["--model_init_kwargs", json.dumps({"token": SECRET, "revision": "v2"})],
        ["--model_init_kwargs", json.dumps({"use_auth_token": SECRET, "revision": "v2"})],
    ],
)
def test_no_secret_is_written(tmp_path: Path, words: list[str]) -> None:
    options = asked(tmp_path / "out", *words)
    text = written(options, tmp_path, ["contralign", "train", "dpo", *words])
    assert SECRET not in text
    assert "..." in text.splitlines()[1]
    kept = yaml.safe_load(text).get("model_init_kwargs")
    assert kept == (None if "hub" in words[0] else {"revision": "v2"})
    assert censored(f"a {SECRET} b", options.config) == "a ... b"


@pytest.mark.parametrize("token", [None, True, ""])
def test_a_token_that_is_no_word_hides_nothing(tmp_path: Path, token: Any) -> None:
    config = DPOConfig(str(tmp_path), model_init_kwargs={"token": token})
    assert censored("a True None b", config) == "a True None b"


def test_what_was_set_ours_and_what_most_defines_a_run_is_chosen(tmp_path: Path) -> None:
    held = chosen(DPOConfig(str(tmp_path), adam_beta1=0.8, hub_token=SECRET, use_cpu=True))
    assert held["adam_beta1"] == 0.8
    assert held["use_cpu"] is True
    assert held.keys() >= {*ALWAYS, "beta", "self_check", "max_length"}
    assert held.keys().isdisjoint(NEVER)
    assert held.keys().isdisjoint({"adam_beta2", "discopop_tau", "dataset_num_proc", "debug"})
    default = {spec.name for spec in dataclasses.fields(TRLConfig)} - set(ALWAYS)
    unset = {name for name in default if name in chosen(DPOConfig(str(tmp_path)))}
    ours = {spec for kind in DPOConfig.__mro__ for spec in vars(kind).get("__annotations__", ())}
    assert unset <= ours


def test_what_the_record_says_stands(tmp_path: Path) -> None:
    """The command line's dtype joins `model_init_kwargs` only on the way to the trainer."""
    config = DPOConfig(str(tmp_path), model_init_kwargs={"dtype": "float32", "a": 1})
    said = {"model_name_or_path": "m", "model_init_kwargs": {"a": 1}}
    assert all_settings(Record(settings=said), config)["model_init_kwargs"] == {"a": 1}
    assert "model_init_kwargs" not in all_settings(Record(), DPOConfig(str(tmp_path)))
    nothing = {**said, "model_init_kwargs": None}
    assert "model_init_kwargs" not in all_settings(Record(settings=nothing), config)


def test_versions_of_all_that_a_run_depends_on() -> None:
    found = versions()
    assert list(found) == ["python", "contralign", *PACKAGES]
    assert found["contralign"] == contralign.__version__
    assert all(number[0].isdigit() for number in found.values())


class Kind(Enum):
    ONE = "one"


@dataclasses.dataclass
class Part:
    kind: Kind
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Kind.ONE, "one"),
        (Part(Kind.ONE, (1, 2)), {"kind": "one", "sizes": [1, 2]}),
        ({1: Path("a/b")}, {"1": "a/b"}),
        ([{"a"}, None, True, 0.5], [["a"], None, True, 0.5]),
        (Part, str(Part)),
    ],
)
def test_plain_is_what_yaml_can_hold(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    assert yaml.safe_load(yaml.safe_dump(plain(value))) == expected
