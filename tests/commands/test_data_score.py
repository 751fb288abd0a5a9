"""`contralign data score`: rows with scores, killed and resumed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Image, List
from PIL import Image as Pictures
from reward_models import saved

from contralign.align.rewards import ModelReward
from contralign.cli import main
from contralign.eval.scenes import recall_reward

FORMAT = "trl.rewards.think_format_reward"
RECALL = "contralign.eval.scenes.recall_reward"
ROWS = [
    {"prompt": "?", "chosen": " A cup.", "rejected": " A fork.", "objects": ["cup"], "id": 7},
    {
        "prompt": "?",
        "chosen": " A fork.",
        "rejected": " A cup.",
        "objects": ["fork", "cup"],
        "id": 8,
    },
]
MODULE = """
from pathlib import Path
calls = Path(__file__).parent / "calls"
stop = Path(__file__).parent / "stop"

def length(completions, **columns):
    with calls.open("a") as file:
        file.write(f"{len(completions)}\\n")
    if stop.exists() and len(calls.read_text().splitlines()) == 2:
        raise KeyboardInterrupt
    return [len(text) for text in completions]
"""


def exit_code(*words: str) -> int:
    try:
        return main(["data", "score", *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def written(file: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return written(tmp_path / "pairs.jsonl")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "scored.jsonl"


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a function that counts its calls, and is killed in the second if told to."""
    name = f"counting_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return f"{name}.length"


def test_scores_stand_beside_the_data(
    data: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(data, "--reward-funcs", RECALL, "--output", str(out)) == 0
    said, err = capsys.readouterr()
    assert said == f"{out}: 2 rows with scores of 4 completions\n"
    assert err == ""
    there = [row["objects"] for row in ROWS]
    expected = [
        {**row, "score_chosen": a, "score_rejected": b}
        for row, a, b in zip(
            ROWS,
            recall_reward([" A cup.", " A fork."], there),
            recall_reward([" A fork.", " A cup."], there),
            strict=True,
        )
    ]
    assert read(out) == expected
    assert isinstance(read(out)[0]["id"], int)
    assert {path.name for path in out.parent.iterdir()} == {"pairs.jsonl", "scored.jsonl"}


def test_several_completions(tmp_path: Path, out: Path, judge: str) -> None:
    rows = [{"prompt": "?", "completions": ["a", "bcd"]}, {"prompt": "!", "completions": ["ab"]}]
    data = written(tmp_path / "k.jsonl", rows)
    assert exit_code(data, "--reward-funcs", judge, "--output", str(out)) == 0
    assert [row["scores"] for row in read(out)] == [[1.0, 3.0], [2.0]]


def test_a_column_by_another_name(tmp_path: Path, out: Path) -> None:
    rows = [{**row, "score_chosen": 3, "score_rejected": 1.5} for row in ROWS]
    data = written(tmp_path / "scores.jsonl", rows)
    words = [data, "--reward-column", "score", "--output", str(out)]
    assert exit_code(*words, "--score-name", "reward") == 0
    assert [(row["reward_chosen"], row["reward_rejected"]) for row in read(out)] == [(3, 1.5)] * 2


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_other_files(tmp_path: Path, out: Path, judge: str, ending: str) -> None:
    rows = Dataset.from_list([{"prompt": "?", "chosen": " ab", "rejected": " c"}] * 2)
    file = str(tmp_path / f"rows.{ending}")
    getattr(rows, f"to_{ending}")(file)
    assert exit_code(file, "--reward-funcs", judge, "--output", str(out)) == 0
    assert read(out) == [{**rows[0], "score_chosen": 3.0, "score_rejected": 2.0}] * 2


def test_pictures_of_a_table_become_files(tmp_path: Path, out: Path) -> None:
    pictures = [[Pictures.new("RGB", (2, 2), color)] for color in ("red", "blue")]
    table = Dataset.from_list([{**r, "images": p} for r, p in zip(ROWS, pictures, strict=True)])
    table.cast_column("images", List(Image())).to_parquet(str(tmp_path / "seen.parquet"))
    words = [str(tmp_path / "seen.parquet"), "--reward-funcs", RECALL, "--output", str(out)]
    assert exit_code(*words) == 0
    for row, (picture,) in zip(read(out), pictures, strict=True):
        (path,) = row["images"]
        assert Pictures.open(tmp_path / path).getpixel((0, 0)) == picture.getpixel((0, 0))


def test_a_model(tmp_path: Path, out: Path) -> None:
    folder = saved(tmp_path / "model")
    rows = [{"prompt": "a b", "chosen": " c d e", "rejected": " f"}] * 2
    data = written(tmp_path / "words.jsonl", rows)
    assert exit_code(data, "--reward-model-name-or-path", str(folder), "--output", str(out)) == 0
    expected = ModelReward(str(folder))(["a b", "a b"], [" c d e", " f"])
    found = read(out)[1]
    assert [found["score_chosen"], found["score_rejected"]] == pytest.approx(expected, abs=1e-5)


def test_what_was_interrupted_goes_on(
    tmp_path: Path, out: Path, judge: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "?", "completion": "a" * (i + 1), "i": i} for i in range(70)]
    words = [written(tmp_path / "many.jsonl", rows), "--reward-funcs", judge]
    words += ["--output", str(out)]
    (tmp_path / "stop").touch()
    assert exit_code(*words) == 130
    assert "Run the same command again to go on" in capsys.readouterr().err
    assert not out.exists()
    kept = tmp_path / "scored.jsonl.run" / "scores.jsonl"
    assert len(kept.read_text().splitlines()) == 32
    with kept.open("a") as file:
        file.write('{"row": 32, "sco')

    (tmp_path / "other.jsonl").write_text(Path(words[0]).read_text() * 2)
    for changed in (
        [str(tmp_path / "other.jsonl"), *words[1:]],
        [words[0], "--reward-funcs", RECALL, *words[3:]],
    ):
        assert exit_code(*changed) == 2
    told = capsys.readouterr().err
    assert "holds a run with other settings: data was" in told
    assert "reads the column 'objects'" in told

    (tmp_path / "stop").unlink()
    (tmp_path / "calls").unlink()
    assert exit_code(*words) == 0
    assert [int(n) for n in (tmp_path / "calls").read_text().split()] == [32, 6]
    assert read(out) == [{**row, "score": float(row["i"] + 1)} for row in rows]
    assert not kept.parent.exists()


def test_another_reward_does_not_take_over(
    tmp_path: Path, data: str, out: Path, judge: str, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "scored.jsonl.run"
    work.mkdir()
    (work / "run.json").write_text(json.dumps({"reward": {"function": "another.one"}}))
    assert exit_code(data, "--reward-funcs", judge, "--output", str(out)) == 2
    assert f"reward.function was 'another.one', is '{judge}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "words", "told"),
    [
        (
            ROWS,
            [],
            "exactly one of reward_model_name_or_path, reward_funcs, reward_column, got none",
        ),
        (ROWS, ["--reward-column", "r"], "reward_column is a column of the data (r, rs, r_chosen"),
        (ROWS, ["--reward-funcs", "nowhere.f"], "there is no module nowhere"),
        (ROWS, ["--reward-model-name-or-path", "./nowhere"], "is a hub id or a folder"),
        (
            [{**ROWS[0], "score_chosen": 1}],
            ["--reward-funcs", RECALL],
            "has the column score_chosen already. Name the scores otherwise: --score-name",
        ),
        (
            [{**ROWS[0], "r_chosen": 1, "r_rejected": "2"}],
            ["--reward-column", "r"],
            "row 0 (the first is row 0): the column r must be a finite number, got str '2'",
        ),
        (
            [ROWS[0], {**ROWS[1], "chosen": ""}],
            ["--reward-funcs", RECALL],
            "1 of 2 rows can't be scored: empty-completion 1 (row 1). Row 1: chosen is str ''",
        ),
        ([{"prompt": "?"}], ["--reward-funcs", FORMAT], "a row to score has prompt, chosen and"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    out: Path,
    rows: list[dict[str, Any]],
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = written(tmp_path / "bad.jsonl", rows)
    assert exit_code(data, *words, "--output", str(out)) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_what_a_model_cannot_read_is_named_before_its_weights_are_loaded(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    rows = [{"prompt": "a", "completion": "b " * n} for n in (1, 300)]
    data = written(tmp_path / "long.jsonl", rows)
    words = [data, "--reward-model-name-or-path", str(folder), "--output", str(out)]
    assert exit_code(*words) == 2
    assert "row 1 (the first is row 0): prompt and completion have 301" in capsys.readouterr().err


def test_an_output_is_not_written_over(
    data: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.write_text("mine")
    assert exit_code(data, "--reward-funcs", RECALL, "--output", str(out)) == 2
    assert "is there already. Choose another file" in capsys.readouterr().err
    assert exit_code(data, "--reward-funcs", RECALL, "--output", f"{out}.csv") == 2
    assert "a file that ends in .jsonl" in capsys.readouterr().err
    assert out.read_text() == "mine"
