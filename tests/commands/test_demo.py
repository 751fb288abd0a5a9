"""The demonstration is runs of `contralign eval`."""

from __future__ import annotations

import argparse

import pytest

from contralign.cli import build_parser, main
from contralign.commands import demo, evaluate


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    ran: list[argparse.Namespace] = []
    monkeypatch.setattr(evaluate, "run", ran.append)
    monkeypatch.setattr(demo, "_own_model", lambda: "/cache/own")
    return ran


def test_is_the_eval_commands_that_it_prints(
    ran: list[argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model=org/name", "--limit=5", "--pictures=3"]) == 0
    commands = capsys.readouterr().err.splitlines()
    assert len(commands) == len(ran) == 3
    for command, args in zip(commands, ran, strict=True):
        printed = command.removeprefix("$ contralign ").split()
        told, done = vars(build_parser().parse_args(printed)), vars(args)
        assert done["command"] == ["contralign", *printed]
        assert {key: value for key, value in told.items() if key != "run"} == {
            key: value for key, value in done.items() if key != "command"
        }


def test_shows_pictures_first_and_text_unless_told_not_to(ran: list[argparse.Namespace]) -> None:
    assert main(["demo", "--no-text"]) == 0
    assert [args.benchmark for args in ran] == ["scenes-pope", "scenes-chair"]
    assert {args.model for args in ran} == {"scenes"}
    assert main(["demo"]) == 0
    assert [args.benchmark for args in ran[2:]] == ["scenes-pope", "scenes-chair", "counterfacts"]


def test_each_run_has_a_folder_of_its_own(ran: list[argparse.Namespace]) -> None:
    for words in ([], ["--model=org/name"], ["--limit=3", "--pictures=2"]):
        assert main(["demo", *words]) == 0
    folders = [str(args.output) for args in ran]
    assert folders[2] == f"runs/demo/own-{ran[2].limit}"
    assert folders[5] == f"runs/demo/name-{ran[2].limit}"
    assert folders[6:] == ["runs/demo/scenes-pope-2", "runs/demo/scenes-chair-2", "runs/demo/own-3"]


def test_a_folder_can_be_chosen(ran: list[argparse.Namespace]) -> None:
    assert main(["demo", "--output=here"]) == 0
    assert {str(args.output.parent) for args in ran} == {"here"}
