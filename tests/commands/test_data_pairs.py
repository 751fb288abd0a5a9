"""`contralign data pairs` with a tiny model: both ways to choose, resumed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from contralign.cli import main
from contralign.eval.scenes import Optics, World, recall_reward
from contralign.eval.scenes import pairs as faithful_and_not

MODULE = """
def letters(completions, **columns):
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [float(len(set(text))) for text in texts]
"""
ROWS = [
    {"prompt": [{"role": "user", "content": text}], "context": "d e f", "id": i}
    for i, text in enumerate(("a b c", "x y", "k", "m n o p"))
]


def exit_code(*words: str) -> int:
    try:
        return main(["data", *words])
    except SystemExit as stop:
        return int(stop.code or 0)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def words(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("letters_judge.py").write_text(MODULE)
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    common = ["--prompts", "prompts.jsonl", "--model", str(model_folder), "--max-new-tokens", "6"]
    return ["pairs", *common, "--output", "pairs.jsonl"]


BEST = ["--n", "4", "--reward-funcs", "letters_judge.letters"]
AGAINST = ["--chosen-method", "cad", "--rejected-method", "sample", "--context-column", "context"]


def checked(file: str, model: Path) -> int:
    return exit_code("check", file, "--model", str(model))


def test_best_and_worst_of_n_samples(
    words: list[str], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words, *BEST) == 0
    out, err = capsys.readouterr()
    assert "pairs.jsonl: " in out
    assert "of 16 answers took all of --max-new-tokens 6" in out
    assert err == ""
    rows = read(Path("pairs.jsonl"))
    assert 0 < len(rows) <= 4
    for row in rows:
        best, worst = (row[side][0]["content"] for side in ("chosen", "rejected"))
        assert row["score_chosen"] == len(set(best)) > row["score_rejected"] == len(set(worst))
        assert row["prompt"] == ROWS[row["id"]]["prompt"]
        assert row["context"] == "d e f"
    source = rows[0]["provenance"]
    assert (source["chosen"], source["samples"], source["seed"]) == ("plain@sample", 4, 0)
    assert source["reward"]["function"] == "letters_judge.letters"
    assert checked("pairs.jsonl", model_folder) == 0


def test_one_method_against_another(words: list[str], model_folder: Path) -> None:
    assert exit_code(*words, *AGAINST) == 0
    rows = read(Path("pairs.jsonl"))
    assert rows
    assert all(row["prompt"][0]["content"].startswith("d e f\n\n") for row in rows)
    assert all(row["provenance"]["chosen"].startswith("cad:alpha=") for row in rows)
    assert "score_chosen" not in rows[0]
    assert checked("pairs.jsonl", model_folder) == 0

    scored = [*words[:-1], "scored.jsonl", *AGAINST, "--reward-funcs", "letters_judge.letters"]
    assert exit_code(*scored) == 0
    row = read(Path("scored.jsonl"))[0]
    assert row["score_chosen"] == len(set(row["chosen"][0]["content"]))


def test_an_answer_belongs_to_its_row_and_seed(words: list[str]) -> None:
    """Batches and what was there before don't matter; the seed does."""

    def pairs(output: str, *more: str) -> list[Any]:
        assert exit_code(*words[:-1], output, *BEST, *more) == 0
        return [(row["id"], row["chosen"], row["rejected"]) for row in read(Path(output))]

    whole = pairs("a.jsonl", "--batch-size", "3")
    first = pairs("b.jsonl", "--batch-size", "8", "--limit", "2")
    assert first == [pair for pair in whole if pair[0] < 2]
    assert pairs("c.jsonl", "--seed", "1") != whole


def test_what_was_interrupted_goes_on(words: list[str]) -> None:
    assert exit_code(*words, *BEST) == 0
    expected = read(Path("pairs.jsonl"))
    Path("pairs.jsonl").unlink()
    answers = Path("pairs.jsonl.run", "answers", "sample.jsonl")
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[:9]) + lines[9][:20])
    (scores,) = Path("pairs.jsonl.run").glob("scores-*/scores.jsonl")
    scores.write_text(scores.read_text().splitlines(keepends=True)[0])
    assert exit_code(*words, *BEST) == 0
    assert read(Path("pairs.jsonl")) == expected
    assert answers.read_text().splitlines(keepends=True)[:9] == lines[:9]


def test_another_run_does_not_take_over(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words, *BEST) == 0
    assert exit_code(*words, *BEST) == 2
    assert "--output pairs.jsonl is there already" in capsys.readouterr().err
    Path("pairs.jsonl").unlink()
    assert exit_code(*words, *BEST, "--seed", "3") == 2
    assert "holds a run with other settings: seed was 0, is 3" in capsys.readouterr().err


def test_equal_answers_make_no_pair(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    same = ["--chosen-method", "greedy", "--rejected-method", "beam2"]
    constant = ["--chosen-method", "cutoff-only:cutoff=0.9", "--rejected-method", "greedy"]
    assert exit_code(*words, *same[:2], *constant[2:]) == 2
    assert "a method is held against another one, got greedy twice" in capsys.readouterr().err
    assert exit_code(*words, *constant) == 2
    told = capsys.readouterr().err
    assert "no pair came of the prompts: 4 prompts without one: equal answers." in told
    assert not Path("pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "are the best and worst of --n samples, or --chosen-method against"),
        (["--chosen-method", "cad"], "Give either"),
        ([*BEST, *AGAINST], "Give either"),
        (["--n", "1", *BEST[2:]], "at least two answers that were drawn, got --n 1 and sample"),
        ([*BEST, "--method", "greedy"], "got --n 4 and greedy. Add @sample"),
        (BEST[:2], "of --n 4 are those under a reward, got none. Name one: --reward-funcs or"),
        ([*BEST[:2], "--reward-column", "score"], "there is no option '--reward-column'"),
        ([*BEST[:2], "--reward-funcs", "nowhere.f"], "there is no module nowhere"),
        (AGAINST[:4], "cad holds the prompt against the same without its context"),
        ([*BEST, "--method", "vcd@sample"], "vcd@sample needs pictures, but row 0 has none"),
    ],
)
def test_what_is_refused_before_the_model_is_loaded(
    words: list[str], more: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words[words.index("--model") + 1] = "nobody/has-this"
    assert exit_code(*words, *more) == 2
    assert told in capsys.readouterr().err


def test_a_dry_run_loads_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words[words.index("--model") + 1] = "nobody/has-this"
    assert exit_code(*words, *BEST, "--dry-run") == 0
    assert (
        capsys.readouterr().out == "prompts.jsonl: 4 prompts, 16 answers by sample; all is well.\n"
    )
    assert not Path("pairs.jsonl.run").exists()


def test_pairs_about_pictures(words: list[str]) -> None:
    world, optics = World(), Optics()
    scenes = world.scenes("train", 4)
    for scene in scenes:
        optics.picture(scene).save(f"{scene.id}.png")
    rows = [{**row, "images": [f"{row['id']}.png"]} for row in faithful_and_not(scenes, world)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words[words.index("--model") + 1] = "scenes"
    words[words.index("--max-new-tokens") + 1] = "24"
    judge = ["--reward-funcs", "contralign.eval.scenes.recall_reward"]
    against = ["--chosen-method", "vcd@sample", "--rejected-method", "sample"]
    for output, how in (("best", ["--n", "6"]), ("against", against)):
        assert exit_code(*words[:-1], f"{output}.jsonl", *how, *judge) == 0
        assert exit_code("check", f"{output}.jsonl", "--model", "scenes") == 0
        for row in read(Path(f"{output}.jsonl")):
            said = [row[side][0]["content"] for side in ("chosen", "rejected")]
            known = recall_reward(said, [row["objects"]] * 2)
            assert [row["score_chosen"], row["score_rejected"]] == known
            assert Path(row["images"][0]).is_file()
            assert output != "best" or known[0] > known[1]
