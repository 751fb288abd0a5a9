"""What every test runs under: no network, one thread, a fixed seed; and a tiny model on disk."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

# Before transformers reads it.
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch


def _mend_torchvision() -> torch.library.Library | None:
    """Define two operators that torchvision's build from PyPI lacks beside a CPU build of torch.

    Without them it can't be imported, and then no model of transformers either.
    """
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


torchvision_operators = _mend_torchvision()
torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "project", deadline=None, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("project")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `from_pretrained` loads: a random chat model that knows 26 one-letter words."""
    from eval_doubles import tiny_llama, tiny_tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    model.config.max_position_embeddings = 512
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.content }} {% endfor %}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


READS_DATA = ("reads", "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("data"):
            item.user_properties.append(READS_DATA)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests read real data: a skip is easily overlooked."""
    reports = terminalreporter.getreports
    count = {
        outcome: sum(READS_DATA in report.user_properties for report in reports(outcome))
        for outcome in ("passed", "failed", "skipped")
    }
    if any(count.values()):
        ran = count["passed"] + count["failed"]
        terminalreporter.write_line(f"tests of real data: {ran} ran, {count['skipped']} skipped")
