"""A benchmark from the command line: the same run as the library's, resumed and refused alike."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from contralign import eval as measuring
from contralign.cli import build_parser, main
from contralign.commands import evaluate
from contralign.commands.options import made
from contralign.decoding import parse_list
from contralign.decoding.amateur import loaded
from contralign.folder import occupied

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
    kind = measuring.BENCHMARKS[file.stem]
    assert made(kind, args).name == file.stem
    written = yaml.safe_load(file.read_text())
    assert {*written} >= {"methods", "batch_size", "seed"}


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
    assert main([*command, "--dtype=bfloat16"]) == 2
    assert "holds a run with other settings: model.dtype" in capsys.readouterr().err


def test_a_folder_of_other_options_is_refused_before_the_model_is_loaded(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(model_folder, tmp_path / "run", "--methods=greedy", "--max-new-tokens=4")
    assert main(command) == 0
    other = ["--seed=1", "--max-new-tokens=5", "--model=/no/model"]
    capsys.readouterr()
    assert main([*command, *other]) == 2
    told = "other settings: --max-new-tokens was 4, is 5; --seed was 0, is 1. Repeat those"
    assert told in capsys.readouterr().err


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
        (["--methods=greedy,,cad"], "separated by one comma each, got 'greedy,,cad'"),
        (["--methods=cad,cd"], "cd holds the model against an amateur, got none"),
        (["--methods=cad,vcd:alpha=2"], "vcd:alpha=2 is about pictures, of which counterfacts has"),
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


@pytest.mark.usefixtures("no_model")
def test_a_method_that_needs_a_context_is_refused_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "scenes-pope", "--pictures=2", "--model=m", f"--output={tmp_path / 'o'}"]
    assert main([*command, "--methods=cad"]) == 2
    assert "same without its context, of which scenes-pope has none" in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_a_second_run_in_a_folder_is_refused_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with occupied(tmp_path / "run"):
        assert main(words(tmp_path, tmp_path / "run")) == 2
    assert f"another run is going on in {tmp_path / 'run'}" in capsys.readouterr().err


def test_an_execution_that_a_method_can_t_have_is_refused_before_any_answer(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amateur = f"--methods=greedy,cd:amateur={model_folder}"
    more = [amateur, "--execution=merged", "--max-new-tokens=2"]
    assert main(words(model_folder, tmp_path / "run", *more)) == 2
    assert "which a contrast read by another model rules out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_answers_of_an_amateur_that_changed_are_computed_anew(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        amateur = AutoModelForCausalLM.from_pretrained(model_folder)
        amateur.lm_head.weight.data += seed * torch.randn_like(amateur.lm_head.weight)
        amateur.save_pretrained(tmp_path / "amateur")
        AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "amateur")
        loaded.cache_clear()
        more = [f"--methods=cd:amateur={tmp_path / 'amateur'}", "--max-new-tokens=2"]
        assert main(words(model_folder, tmp_path / "run", *more)) == 0
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        resumed.append(report["methods"][0]["resumed"])
    assert resumed == [0, 3, 0]


def test_a_run_without_any_answer_is_no_success(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The shortest prompt alone would fit, but not with what is to come.
    assert main(words(model_folder, tmp_path / "run", "--max-new-tokens=500")) == 2
    printed = capsys.readouterr()
    assert "greedy answered none of 3 rows; the first error: the prompt has" in printed.err
    assert "| greedy" in printed.out
    assert " 1.000" not in printed.out
    assert main(words(model_folder, tmp_path / "other", "--max-new-tokens=512")) == 2
    assert "max_new_tokens must be below a context of 512, got 512" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


QUESTION = {"question_id": 1, "image": "1.jpg", "text": "Is there a cat?", "label": "yes"}


@pytest.mark.usefixtures("no_model")
def test_a_file_of_answers_is_scored_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (questions := tmp_path / "random.json").write_text(json.dumps(QUESTION) + "\n")
    (answers := tmp_path / "a.jsonl").write_text('{"question_id": 1, "text": "Yes"}\n')
    command = ["eval", "pope", f"--path={questions}", f"--answers={answers}", "--parser=lmms"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "1 answers, read as by 'lmms', 0 unparsed" in out
    assert "| accuracy  | 1.000 [0.207, 1.000] |   1 |" in out
    answers.write_text('{"question_id": 2, "text": "Yes"}\n')
    assert main(command) == 2
    assert "a.jsonl:1: answers a question that is not among the 1 asked" in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_captions_are_scored_against_ground_truth_of_coco(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instances = {
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 18}],
    }
    captions = {"annotations": [{"image_id": 7, "caption": "A dog on a bench"}]}
    files = [tmp_path / name for name in ("instances.json", "captions.json", "said.json")]
    said = [{"image_id": 7, "caption": "A dog and a cat."}]
    for file, content in zip(files, (instances, captions, said), strict=True):
        file.write_text(json.dumps(content))
    made = f"--output={tmp_path / 'truth.json'}"
    assert main(["coco", f"--instances={files[0]}", f"--captions={files[1]}", made]) == 0
    assert "the objects of 1 pictures" in capsys.readouterr().out
    assert (
        main(["eval", "chair", f"--truth={tmp_path / 'truth.json'}", f"--answers={files[2]}"]) == 0
    )
    out = capsys.readouterr().out
    # One caption: its interval can't be told.
    assert "| chairi | 0.500 | 2 |" in " ".join(out.split())
    assert "read as by 'ours'" in out


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("more", [[], ["--model=m"], ["--output=o"]])
def test_a_benchmark_with_answer_files_needs_one_or_a_model(
    capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["eval", "pope", "--path=q.json", *more]) == 2
    assert (
        "needs --model and --output, or scores a file and needs --answers"
        in capsys.readouterr().err
    )


@pytest.mark.usefixtures("no_model")
def test_pictures_are_missed_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (questions := tmp_path / "random.json").write_text(json.dumps(QUESTION) + "\n")
    assert main(["eval", "pope", f"--path={questions}", "--model=m", f"--output={tmp_path}/o"]) == 2
    assert "got images=None" in capsys.readouterr().err
