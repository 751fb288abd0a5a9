"""`contralign train cpl` and `copg`: their files, runs, help, and what they refuse."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from train_runs import CONFIGS, history, hollow, pairs, train, written

from contralign.cli import main
from contralign.commands.train_help import text
from contralign.commands.train_options import CONFIGS as METHODS
from contralign.commands.train_options import read

SCORED = {"score_chosen": 1.0, "score_rejected": 0.0}
GROUP: dict[str, Any] = {"prompt": "a b", "completions": [" c", " d e"], "scores": [1.0, 0.0]}


@pytest.mark.parametrize("method", METHODS)
def test_the_configs_of_the_repository(method: str, tmp_path: Path) -> None:
    file = CONFIGS / f"{method}.yaml"
    found = read(method, ["--config", str(file), "--output_dir", str(tmp_path)])
    assert (found.method, type(found.config)) == (method, METHODS[method])
    default = METHODS[method](str(tmp_path))
    for name in ("alpha", "beta", "gamma", "lmbda", "kl", "bc_coeff", "bc_steps", "online"):
        assert getattr(found.config, name, None) == getattr(default, name, None), name


@pytest.mark.parametrize(
    ("method", "paper", "options"),
    [
        ("cpl", "trained with CPL by", {"bc_steps": 1, "kl": True}),
        ("copg", "trained with CoPG by", {"beta": 0.1}),
    ],
)
def test_a_run_ends_with_all_that_tells_of_it(
    method: str,
    paper: str,
    options: dict[str, Any],
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, output = pairs(tmp_path, **SCORED), tmp_path / "out"
    more = {"eval_strategy": "steps", "eval_steps": 2, "test_split_size": 4, "eval_samples": 1}
    assert train(model_folder, data, output, method, **more, **options) == 0
    assert capsys.readouterr().out.endswith(
        f"Model, card and curves: {output} (after update 2 of 2)\n"
    )
    card = (output / "README.md").read_text()
    assert paper in card
    assert "training: 16 rows" in card
    assert (output / "train.yaml").read_text().startswith(f"# contralign train {method} --config ")
    assert len(history(output)) == 2
    assert ("| evaluation: scores/mean |" in card) == (method == "copg")
    sample = json.loads((output / "samples.jsonl").read_text().splitlines()[0])
    assert sample.keys() == {"step", "data", "prompt", "chosen", "rejected", "generated"}


def test_the_settings_of_a_run_are_read_again(model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    given = {"gamma": 0.9, "lmbda": 0.5, "average": True}
    assert train(model_folder, pairs(tmp_path), output, "cpl", **given) == 0
    again = tmp_path / "again"
    assert main(
        ["train", "cpl", "--config", f"{output}/train.yaml", "--output_dir", f"{again}"]
    ) in (
        0,
        None,
    )
    assert history(again) == history(output)


@pytest.mark.parametrize(
    ("method", "key", "told"),
    [
        ("cpl", "lmbda", "The paper's lambda, in (0, 1]"),
        ("cpl", "bc_steps", "Updates that only imitate chosen answers"),
        ("copg", "online", "Whether completions are sampled"),
        ("copg", "beta", "in units of the scores. [0.06]"),
    ],
)
def test_help_has_the_methods_own_keys(method: str, key: str, told: str) -> None:
    found = text(method, everything=False)
    assert f"  --{key} " in found
    assert told in " ".join(found.split())
    assert "loss_type" not in found


def broken(**columns: Any) -> list[dict[str, Any]]:
    return [GROUP, {**GROUP, **columns}]


REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("cpl", None, {"gamma": 1.5}, "gamma must lie in (0, 1], got 1.5."),
    ("cpl", None, {"lmbda": 0}, "lmbda must lie in (0, 1], got 0.0."),
    ("cpl", None, {"alpha": -1}, "alpha must be above 0, got -1.0."),
    ("cpl", None, {"lambda": 0.5}, "there is no key 'lambda'. Did you mean 'lmbda'?"),
    ("cpl", None, {"loss_type": "sigmoid"}, "there is no key 'loss_type'."),
    ("cpl", None, {"kl": True, "reference": "none"}, "kl compares with a reference"),
    ("cpl", None, {"bc_steps": 2}, "bc_steps comes before CPL and leaves updates for it, got 2 of"),
    ("cpl", broken(completions=[" c", ""]), {}, "empty-completion 1 (row 1)"),
    ("cpl", broken(completions=[" c"], scores=[1.0]), {}, "one-completion 1 (row 1)"),
    ("cpl", broken(completions=[" c", " d", " e"], scores=None), {}, "unequal-groups 1 (row 1)"),
    ("cpl", broken(scores=[1.0, 1.0]), {}, "tied-scores 1 (row 1)"),
    ("cpl", [GROUP], {"lmbda": 0.5}, "unknown-format 1 (row 0)"),
    ("copg", None, {"beta": -0.1}, "beta must be above 0, got -0.1."),
    ("copg", None, {"online": True}, "online samples need a reward, got none."),
    (
        "copg",
        None,
        {"num_generations": 8},
        "num_generations is of samples, got 8 where none are drawn.",
    ),
    ("copg", None, {}, "missing-score 20 (rows 0, 1, 2, 3, 4, ...)"),
    ("copg", broken(scores=["high", "low"]), {}, "bad-number 1 (row 1)"),
    ("copg", broken(scores=[1.0, math.nan]), {}, "bad-number 1 (row 1)"),
    ("copg", broken(completions=[" c"], scores=[1.0]), {}, "one-completion 1 (row 1)"),
    ("copg", broken(completions=[" c"] * 3, scores=[1.0, 2.0, 3.0]), {}, "identical 1 (row 1)"),
    ("copg", broken(completions=[" c", " d", " e"], scores=[1, 2, 3]), {}, "unequal-groups 1"),
    ("copg", broken(baseline=1.0), {}, "bad-number 2 (rows 0, 1)"),
]


@pytest.fixture(scope="module")
def empty(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without weights: only what is refused before it's loaded says something else."""
    return hollow(model_folder, tmp_path_factory.mktemp("models") / "hollow")


@pytest.mark.parametrize(("method", "data", "given", "told"), REFUSED)
def test_before_the_model_is_loaded(
    method: str,
    data: Any,
    given: dict[str, Any],
    told: str,
    empty: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = pairs(tmp_path) if data is None else written(tmp_path / "groups.jsonl", data)
    assert train(empty, file, tmp_path / "out", method, **given) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "code", "told"),
    [
        ("dpo", 1, "error: unknown-format, 1 row\n"),
        ("cpl", 0, "1 row checked (the first is row 0): nothing found."),
        ("copg", 0, "1 row checked (the first is row 0): nothing found."),
    ],
)
def test_data_is_checked_for_a_method(
    method: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "groups.jsonl", [GROUP])
    try:
        found = main(["data", "check", str(file), "--method", method])
    except SystemExit as stop:
        found = int(stop.code or 0)
    assert found == code
    assert told in capsys.readouterr().out
