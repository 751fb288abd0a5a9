"""`contralign train dcd`, and what it wrote as a method of `contralign generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from align_vlms import picture
from eval_doubles import tiny_llama
from train_runs import SHORT, exit_code
from vlms import family

from contralign.commands.train_help import text
from contralign.commands.train_options import CONFIGS

DCD = Path(__file__).parents[2] / "configs" / "train" / "dcd.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny, processor = family("LLaVA-1.5")
    tiny.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for i in range(4):
        picture(i).save(folder / f"{i}.png")
        said = {"prompt": "<image>What is it?", "chosen": "noise" + "!" * i, "rejected": "a cat"}
        rows.append(said | {"images": [str(folder / f"{i}.png")]})
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def train(model: Path, data: Path, output: Path, **options: Any) -> int:
    named = {"model_name_or_path": model, "dataset_name": data, "output_dir": output}
    given = {
        **SHORT,
        "config": DCD,
        "eval_on_start": False,
        "save_strategy": "no",
        "dtype": "float32",
        **named,
        **options,
    }
    typed = [(f"--{name}", str(value)) for name, value in given.items() if value is not None]
    return exit_code(["train", "dcd", *(word for pair in typed for word in pair)])


def test_what_it_writes_answers(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "dcd"
    assert train(model, pairs, output, use_peft=True) == 0
    assert f"card and curves: {output}" in capsys.readouterr().out
    config = json.loads((output / "config.json").read_text())
    assert (config["base_model"], config["data"]) == (str(model), str(pairs))
    settings = (output / "train.yaml").read_text()
    assert settings.startswith("# contralign train dcd --config ")
    assert yaml.safe_load(settings)["variant"] == "pos_neg"
    card = (output / "README.md").read_text()
    assert "Image projections for" in card
    assert "DCD.from_pretrained" in card
    asked = ["--model", str(model), "--image", str(pairs.parent / "0.png"), "--question", "What?"]
    named = ["--method", f"dcd:path={output}", "--max-new-tokens", "4"]
    assert exit_code(["generate", *asked, *named]) == 0
    assert train(model, pairs, output) == 2
    assert "holds a model already (projections.safetensors)" in capsys.readouterr().err


def test_bad_input_is_one_line(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    text_only = tmp_path / "text.jsonl"
    text_only.write_text("".join(json.dumps({**row, "images": None}) + "\n" for row in rows))
    assert train(model, text_only, tmp_path / "out") == 2
    assert "DCD trains on pictures" in capsys.readouterr().err
    assert train(model, pairs, tmp_path / "out", variant="neg") == 2
    assert "neg_only" in capsys.readouterr().err
    llama = tmp_path / "llama"
    tiny_llama().save_pretrained(llama)
    family("LLaVA-1.5")[1].save_pretrained(llama)
    assert train(llama, pairs, tmp_path / "out") == 2
    assert "LlamaForCausalLM reads text alone" in capsys.readouterr().err


def test_its_help_and_its_config_file() -> None:
    assert "--variant" in text("dcd", everything=False)
    assert "--beta" not in text("dcd", everything=False)
    known = {*CONFIGS["dcd"].__dataclass_fields__}
    own = {"variant", "learning_rate", "eval_on_start", "metric_for_best_model"}
    assert own <= yaml.safe_load(DCD.read_text()).keys() & known
