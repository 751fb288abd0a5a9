"""The demonstration is a run of `contralign eval`."""

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


def test_is_the_eval_command_that_it_prints(
    ran: list[argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model=org/name", "--limit=5"]) == 0
    printed = capsys.readouterr().err.removeprefix("$ contralign ").split()
    told = vars(build_parser().parse_args(printed))
    done = vars(ran[0])
    assert done["command"] == ["contralign", *printed]
    assert {key: value for key, value in told.items() if key != "run"} == {
        key: value for key, value in done.items() if key != "command"
    }


def test_has_a_model_and_a_folder_of_its_own(ran: list[argparse.Namespace]) -> None:
    assert main(["demo"]) == 0
    assert main(["demo", "--model=org/name"]) == 0
    assert ran[0].model == "/cache/own"
    limit = ran[0].limit
    assert [str(args.output) for args in ran] == [f"runs/demo/{n}-{limit}" for n in ("own", "name")]


def test_a_folder_can_be_chosen(ran: list[argparse.Namespace]) -> None:
    assert main(["demo", "--output=here"]) == 0
    assert str(ran[0].output) == "here"
