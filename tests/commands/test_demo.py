"""The demonstration is a few runs of `contralign eval`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from contralign.cli import build_parser, main
from contralign.commands import demo, evaluate

SCENES = ["scenes-pope", "scenes-chair", "scenes-chair"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    ran: list[argparse.Namespace] = []
    monkeypatch.setattr(evaluate, "measure", ran.append)
    monkeypatch.setattr(demo, "_own_model", lambda: "/cache/own")
    return ran


def test_is_the_eval_commands_that_it_prints(
    ran: list[argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model=org/name", "--limit=5", "--pictures=3"]) == 0
    printed = capsys.readouterr().err.splitlines()
    for line, args in zip(printed, ran, strict=True):
        words = line.removeprefix("$ contralign ").split()
        told, done = vars(build_parser().parse_args(words)), vars(args)
        assert done.pop("command") == ["contralign", *words]
        assert {key: value for key, value in told.items() if key != "run"} == done
    assert [args.benchmark for args in ran] == [*SCENES, "counterfacts"]
    assert [args.model for args in ran] == ["scenes"] * 3 + ["org/name"]
    assert [getattr(args, "pictures", None) for args in ran] == [3, 9, 9, None]


def test_text_can_be_left_out(ran: list[argparse.Namespace]) -> None:
    assert main(["demo", "--no-text"]) == 0
    assert [args.benchmark for args in ran] == SCENES


def test_every_run_has_a_folder_of_its_own(ran: list[argparse.Namespace]) -> None:
    assert main(["demo", "--output=here", "--pictures=3", "--limit=5"]) == 0
    assert [str(args.output) for args in ran] == [
        "here/scenes-pope-3",
        "here/scenes-chair-in-bias-9",
        "here/scenes-chair-counter-bias-9",
        "here/own-5",
    ]


def test_shows_intervals_paired_tests_and_the_yes_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PICTURE_METHODS", "greedy,vcd@sample")
    assert main(["demo", "--no-text", "--pictures=2", f"--output={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(demo.WHY)
    for said in ("# scenes-pope: accuracy", "p (Holm)", "yes_ratio", "# scenes-chair: chairs"):
        assert said in out
    names = "scenes-pope-2", "scenes-chair-in-bias-6", "scenes-chair-counter-bias-6"
    pages = [tmp_path / name / "report.html" for name in names]
    assert all(f"Report: {page}\n" in out and page.is_file() for page in pages)
