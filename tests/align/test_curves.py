"""Pictures of a run: drawn without a display, of what was logged, the same for the same run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contralign.align.curves import PANELS, eval_series, train_series, write_curves

TRAINED: list[dict[str, Any]] = [
    {"loss": 0.7, "rewards/margins": 0.0, "step": 1},
    {"loss": 0.3, "rewards/margins": 1.25, "step": 2},
    {"loss": 0.4, "rewards/margins": 1.0, "step": 3},
    {"train_loss": 0.5, "loss": 9.0, "train_runtime": 3.0, "step": 3},
]
EVALUATED: list[dict[str, Any]] = [
    *TRAINED,
    {"eval_loss": 0.6, "eval_loss_se": 0.1, "step": 2},
    {"eval_loss": 0.5, "eval_loss_se": 0.1, "step": 3},
]
SETS: list[dict[str, Any]] = [
    {"eval_$\\a_logps/chosen_drift": -1.0, "step": 1},
    {"eval_<b>_logps/chosen_drift": -2.0, "step": 1},
]


def page(folder: Path, history: list[dict[str, Any]], title: str = "run", *notes: str) -> str:
    write_curves(history, folder, title, notes)
    return (folder / "curves.html").read_text("utf-8")


def cells(text: str) -> dict[str, list[float]]:
    rows = re.findall(r"<tr><td>(.*?)</td>(.*?)</tr>", text)
    return {name: [float(x) for x in re.findall(r"<td>(.*?)</td>", rest)] for name, rest in rows}


def test_series_of_training_leave_the_summary_out() -> None:
    assert train_series(TRAINED, "loss") == ([1, 2, 3], [0.7, 0.3, 0.4])
    assert train_series(TRAINED, "kl") == ([], [])


def test_series_of_evaluation_by_data_set() -> None:
    assert eval_series(EVALUATED, "loss") == {"": ([2, 3], [0.6, 0.5])}
    assert eval_series(EVALUATED, "loss_se") == {"": ([2, 3], [0.1, 0.1])}
    assert eval_series(SETS, "logps/chosen_drift") == {"$\\a": ([1], [-1.0]), "<b>": ([1], [-2.0])}
    assert eval_series(TRAINED, "loss") == {}


def test_draws_without_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pyplot looks for one."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    write_curves(EVALUATED, tmp_path, "run")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "curves.html"}
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        darkest, brightest = picture.convert("L").getextrema()
        assert darkest < brightest


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    first = page(tmp_path, EVALUATED)
    assert page(tmp_path, EVALUATED) == first
    assert page(tmp_path, TRAINED) != first


@pytest.mark.parametrize("number", range(len(PANELS)))
@pytest.mark.parametrize("prefix", ["", "eval_"])
def test_there_are_panels_for_what_was_logged(tmp_path: Path, number: int, prefix: str) -> None:
    *_, name = PANELS[number].lines
    text = page(tmp_path, [{f"{prefix}{name}": 1.0, "step": 1}])
    assert [panel for panel in PANELS if f">{panel.title}<" in text] == [PANELS[number]]
    assert (", dots: evaluation)" in text) is bool(prefix)


@pytest.mark.parametrize("history", [[], [{"learning_rate": 1e-3, "step": 1}]])
def test_nothing_is_drawn_of_nothing(tmp_path: Path, history: list[dict[str, Any]]) -> None:
    write_curves(history, tmp_path, "run")
    assert list(tmp_path.iterdir()) == []


def test_says_what_each_number_was_at_first_at_last_at_least_and_at_most(tmp_path: Path) -> None:
    assert cells(page(tmp_path, EVALUATED)) == {
        "training: loss": [0.7, 0.4, 0.3, 0.7],
        "training: rewards/margins": [0, 1, 0, 1.25],
        "evaluation: loss": [0.6, 0.5, 0.5, 0.6],
    }


def test_words_of_others_are_no_markup(tmp_path: Path) -> None:
    text = page(tmp_path, SETS, "<i>a & b", "<script>alert(1)</script>")
    assert "<h1>&lt;i&gt;a &amp; b</h1>" in text
    assert "<title>&lt;i&gt;a &amp; b</title>" in text
    assert '<p class="note">&lt;script&gt;alert(1)&lt;/script&gt;</p>' in text
    assert "evaluation &lt;b&gt;: logps/chosen_drift" in text
    assert "<b>" not in text
    assert "chosen $\\a" in text


def test_what_chosen_and_rejected_are_is_in_the_legend(tmp_path: Path) -> None:
    line = {"logps/chosen": -3.0, "logps/rejected": -4.0, "step": 1}
    assert {">chosen<", ">rejected<"} <= set(re.findall(r">\w+<", page(tmp_path, [line])))
    assert ">chosen<" not in page(tmp_path, TRAINED)
