"""Functions as rewards: found by their path, called as TRL calls them, their answers checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contralign.align.rewards import FunctionReward, RewardError
from contralign.eval.scenes import recall_reward

MODULE = """
def length(prompts, completions, **columns):
    return [len(p + c) for p, c in zip(prompts, completions)]

def plain(completions, wanted):
    return [float(c == w) for c, w in zip(completions, wanted)]

def few(completions, **columns):
    return [0.0]

def none(completions, **columns):
    return [0.0, None]

def nan(completions, **columns):
    return [0.0, float("nan")]

async def later(completions, **columns):
    return []

number = 3
"""
RECALL = "contralign.eval.scenes.recall_reward"


@pytest.fixture
def judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory."""
    name = f"judges_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_judges_as_if_it_were_called_itself() -> None:
    said = ["A cup and a fork.", "A cup."]
    there = [["cup"], ["cup", "fork"]]
    found = FunctionReward(RECALL)(["?", "?"], said, objects=there, images=[None, None])
    assert found == recall_reward(said, there) == [0.0, 0.5]


def test_messages_reach_it_as_they_are() -> None:
    said = [[{"role": "assistant", "content": "A cup."}]]
    asked = [[{"role": "user", "content": "?"}]]
    assert FunctionReward(RECALL)(asked, said, objects=[["cup"]]) == [1.0]


def test_the_working_directory_is_searched(judges: str) -> None:
    assert FunctionReward(f"{judges}.length")(["a", "bc"], ["d", "e"]) == [2.0, 3.0]


def test_columns_that_it_does_not_name_are_not_passed(judges: str) -> None:
    reward = FunctionReward(f"{judges}.plain")
    assert reward(["?", "?"], ["a", "b"], wanted=["a", "a"], other=[1, 2]) == [1.0, 0.0]


def test_a_column_that_it_names_must_be_there(judges: str) -> None:
    with pytest.raises(ValueError, match="reads the column 'wanted', but the data's are prompt"):
        FunctionReward(f"{judges}.plain").check(["prompt"])
    with pytest.raises(ValueError, match="reads the column 'objects', but the data's are none"):
        FunctionReward(RECALL).check([])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("few", r"few gives one number for each completion, got 1 for 2"),
        ("none", "completion 1: .*none must be a finite number, got None"),
        ("nan", "completion 1: .*nan must be a finite number, got float nan"),
    ],
)
def test_wrong_answers_are_refused(judges: str, name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FunctionReward(f"{judges}.{name}")(["?", "?"], ["a", "b"])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("length", "is a dotted path, got 'length'. Write package.module.function"),
        ("nowhere.at.all", "there is no module nowhere. Correct the path"),
        ("contralign.nowhere.f", "there is no module contralign.nowhere"),
        ("{}.absent", "has no function 'absent'"),
        ("{}.number", "has no function 'number'"),
        ("{}.later", "has an async function 'later'"),
    ],
)
def test_paths_that_lead_nowhere(judges: str, path: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FunctionReward(path.format(judges)).check([])


def test_a_module_that_fails_by_itself_says_so(tmp_path: Path, judges: str) -> None:
    (tmp_path / "broken_judge.py").write_text("import a_module_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        FunctionReward("broken_judge.f").check([])


def test_other_code_is_another_reward(tmp_path: Path, judges: str) -> None:
    before = FunctionReward(f"{judges}.length").fingerprint()
    assert FunctionReward(f"{judges}.length").fingerprint() == before
    (tmp_path / f"{judges}.py").write_text(MODULE + "\n# changed\n")
    after: Any = FunctionReward(f"{judges}.length").fingerprint()
    assert after["function"] == before["function"]
    assert before.keys() == after.keys()
    assert after != before


def test_an_error_names_its_completion() -> None:
    error = RewardError(3, "it is odd")
    assert (error.index, str(error)) == (3, "completion 3: it is odd")
