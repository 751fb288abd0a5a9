"""The tree of commands: fast help, exit codes, one clean line for every error."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import pytest

from contralign import __version__, cli
from contralign.commands import evaluate, methods


def raising(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> None:
        raise error

    return run


def executed(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"], ["eval", "--help"]])
def test_help_imports_no_heavy_library(words: list[str]) -> None:
    done = executed(
        "import sys\n"
        "from contralign.cli import main\n"
        "try:\n"
        f"    main({words})\n"
        "finally:\n"
        "    print('heavy:', {'torch', 'transformers'} & set(sys.modules), file=sys.stderr)\n"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: contralign")
    assert done.stderr == "heavy: set()\n"


def test_every_command_is_in_the_help() -> None:
    printed = cli.build_parser().format_help()
    assert all(f"    {name} " in printed for name in cli.COMMANDS)


def test_prints_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"contralign {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("alpha must\n  be positive"), 2, "alpha must be positive"),
        (FileNotFoundError(2, "No such file", "x"), 1, "x: No such file. Check its spelling."),
        (PermissionError(13, "Permission denied", "x"), 1, "x: Permission denied."),
        (OSError(), 1, "OSError"),
    ],
)
def test_errors_are_one_line(
    error: Exception,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(methods, "run", raising(error))
    assert cli.main(["methods"]) == code
    assert capsys.readouterr().err == f"contralign: error: {line}\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "run", raising(KeyError("bug")))
    with pytest.raises(KeyError, match="bug"):
        cli.main(["methods"])


def test_an_error_keeps_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "run", raising(ValueError("odd")))
    monkeypatch.setenv("CONTRALIGN_DEBUG", "1")
    with pytest.raises(ValueError, match="odd"):
        cli.main(["methods"])


def test_an_interrupted_eval_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "run", raising(KeyboardInterrupt()))
    assert cli.main(["eval", "counterfacts", "--model=m", "--output=o"]) == 130
    assert "Run the same command again to go on" in capsys.readouterr().err


def test_other_interrupted_commands_promise_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(methods, "run", raising(KeyboardInterrupt()))
    assert cli.main(["methods"]) == 130
    assert capsys.readouterr().err == "contralign: error: interrupted. Nothing was kept.\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = executed(
        "import os, sys\n"
        "from contralign import cli\n"
        "from contralign.commands import methods\n"
        "reading, writing = os.pipe()\n"
        "os.dup2(writing, 1)\n"
        "os.close(reading)\n"
        "os.close(writing)\n"
        "methods.run = lambda args: print('x' * 100_000, flush=True)\n"
        "sys.exit(cli.main(['methods']))\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
