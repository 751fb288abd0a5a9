"""What README and CONTRIBUTING tell people to type works."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import contralign.align.losses
import contralign.decoding
from contralign import smollm2
from contralign.align.batch import Batch
from contralign.cli import build_parser
from contralign.decoding import METHODS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def commands(program: str) -> list[list[str]]:
    lines = [
        line for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))[:1] == [program]]


def test_the_python_blocks_of_the_readme_run_one_after_another(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(smollm2, "smollm2", lambda: model_folder)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    for block in blocks("README.md", "python"):
        exec(compile(block, "README.md", "exec"), known)
    assert capsys.readouterr().out.strip()
    assert known["mask"].tolist() == [[True]]
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


def test_both_first_blocks_of_the_readme_decode_the_same(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "smollm2", lambda: model_folder)
    known: dict[str, Any] = {}
    view, drop_in = blocks("README.md", "python")[:2]
    exec(compile(view, "README.md", "exec"), known)
    by_view = known["ids"]
    exec(compile(drop_in, "README.md", "exec"), known)
    assert torch.equal(known["ids"], by_view)


def written(block: int, package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a package that a block of CONTRIBUTING is."""
    module = ModuleType(f"{package.__name__}.written")
    module.__package__ = package.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(blocks("CONTRIBUTING.md", "python")[block], "written.py", "exec"), vars(module))
    return module


def test_the_method_of_contributing_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    module = written(0, contralign.decoding, monkeypatch)
    expert, contrast = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])
    # 0.75 * 1 + 0.25 * 3 = 1.5, 0.75 * 2 - 0.25 * 2 = 1.
    assert module.HalfCAD(weight=0.25).rule(expert, contrast).tolist() == [1.5, 1.0]


def test_the_loss_of_contributing_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    module = written(1, contralign.align.losses, monkeypatch)
    # h = [-1 - 2 + 4, -3 + 1] = [1, -2]: (1 - 0.5 * 3) ** 2 = 0.25.
    policy = torch.tensor([[[-1.0, -2.0], [-3.0, 0.0]]])
    reference = torch.tensor([[[-2.0, -2.0], [-1.0, 0.0]]])
    loss, metrics = module.Squared(beta=0.5)(policy, reference, Batch([[1]], [[[2, 3], [4]]]))
    assert loss.tolist() == [0.25]
    assert metrics["rewards/margins"].tolist() == [1.5]


@pytest.mark.parametrize("words", commands("contralign"), ids=lambda words: " ".join(words[:3]))
def test_the_commands_of_the_pages_parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert build_parser().parse_args(words[1:]).run


def test_the_targets_of_the_pages_are_in_the_makefile() -> None:
    told = {words[1] for words in commands("make")}
    assert {"demo", "test", "setup", "check"} <= told
    assert told <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_readme_lists_every_method() -> None:
    table = (ROOT / "README.md").read_text().partition("## Methods")[2]
    assert set(METHODS) <= set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text())
    assert all((ROOT / link).exists() for link in links)
