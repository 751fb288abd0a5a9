"""A benchmark from the command line: the same run as the library's, resumed and refused alike."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from contralign import eval as measuring
from contralign.cli import build_parser, main
from contralign.commands import evaluate
from contralign.commands.options import made
from contralign.decoding import parse_list

CONFIGS = Path(__file__).parents[2] / "configs" / "eval"


def words(folder: Path, output: Path, *more: str) -> list[str]:
    return ["eval", "counterfacts", f"--model={folder}", f"--output={output}", "--limit=3", *more]


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when something that could be refused at once waits for the model."""

    def load(args: argparse.Namespace) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(evaluate, "load_model", load)


def test_every_benchmark_has_a_command() -> None:
    assert evaluate.BENCHMARKS.keys() == measuring.BENCHMARKS.keys()


@pytest.mark.parametrize("name", evaluate.BENCHMARKS)
def test_an_unset_option_is_the_benchmark_s_default(name: str) -> None:
    args = build_parser().parse_args(["eval", name, "--model=m", "--output=o"])
    kind = measuring.BENCHMARKS[name]
    assert made(kind, args) == kind()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_config_is_of_the_benchmark_it_is_named_after(file: Path) -> None:
    args = build_parser().parse_args(
        ["eval", file.stem, f"--config={file}", "--model=m", "--output=o"]
    )
    assert [one.label for one in parse_list(args.methods)][:2] == ["greedy", "sample"]
    measuring.BENCHMARKS[file.stem](truncation=args.truncation)


def test_runs_reports_and_resumes(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(model_folder, tmp_path / "run", "--methods=greedy,cad", "--max-new-tokens=4")
    assert main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("# counterfacts: faithful\n")
    assert "| cad " in first
    assert first.endswith(f"Report: {tmp_path / 'run' / 'report.html'}\n")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["reproduce"]["command"].startswith("contralign eval counterfacts --model=")
    assert main(command) == 0
    again = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [one["resumed"] for one in again["methods"]] == [3, 3]
    assert main([*command, "--seed=1"]) == 2
    assert "holds a run with other settings: seed was 0, is 1" in capsys.readouterr().err


def test_baselines_are_put_in_front(model_folder: Path, tmp_path: Path) -> None:
    more = ["--methods=cad", "--baselines", "--max-new-tokens=2"]
    assert main(words(model_folder, tmp_path, *more)) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["label"] for one in report["methods"]] == ["greedy", "sample", "cutoff-only", "cad"]


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--methods=greedy,adacda"], "no decoding method is called 'adacda'. Did you mean"),
        (["--methods=cad,cad"], "each method is named once"),
        (["--contexts=conflcit"], "contexts"),
    ],
)
def test_refuses_before_the_model_is_loaded(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    complaint: str,
) -> None:
    assert main(words(model_folder, tmp_path, *more)) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_a_broken_line_of_data_is_named_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "broken.jsonl").write_text("{}\n")
    assert main(["eval", "nq-synth", f"--path={file}", "--model=m", "--output=o"]) == 2
    assert f"{file}:1: every object has a field" in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_missing_data_is_an_error_of_the_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "nq-synth", "--path=absent.jsonl", "--model=m", "--output=o"]) == 1
    assert "absent.jsonl" in capsys.readouterr().err
