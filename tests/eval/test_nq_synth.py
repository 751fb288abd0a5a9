from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contralign.eval.ask import Benchmark, Scored
from contralign.eval.nq_synth import NQSynth

FILE = "nq_synth/nq_synth_2_-1.jsonl"


def line(index: int, process: int, **fields: Any) -> dict[str, Any]:
    return {
        "input_index": index,
        "assigned_process": process,
        "assigned_weight": -7,
        "context_string": f"prompt {index} {process}",
        "gold_answers": f"gold {index}",
    } | fields


def written(tmp_path: Path, *lines: dict[str, Any]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_lines_are_paired_by_index_wherever_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path, line(7, 1), line(3, 0), line(7, 0), line(3, 1))

    assert NQSynth(path).load() == [
        {"id": "3", "prompt": "prompt 3 0", "contrast": "prompt 3 1", "gold": ["gold 3"]},
        {"id": "7", "prompt": "prompt 7 0", "contrast": "prompt 7 1", "gold": ["gold 7"]},
    ]


def test_prompts_are_asked_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path, line(0, 0, context_string=" c \nQ ?\nAnswer:"), line(0, 1))
    benchmark = NQSynth(str(path), max_new_tokens=9)
    ask = benchmark.ask(benchmark.load()[0])

    assert (ask.prompt, ask.contrast) == (" c \nQ ?\nAnswer:", "prompt 0 1")
    assert ask.max_new_tokens == 9


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([line(0, 0), line(0, 1), line(1, 1)], ":3: .*got only 1 for input_index 1"),
        ([line(0, 0), line(0, 1), line(0, 0)], ":3: .*got one more, of 0, for input_index 0"),
        ([line(0, 0), line(0, 2)], ":2: .*got one more, of 2, for input_index 0"),
        ([line(0, 0), line(0, 1, gold_answers="x")], ":2: .*'gold 0' at line 1 and 'x' here"),
        ([line(0, 0), line(0, 1, gold_answers=["x"])], ":2: .*'gold_answers' of type str"),
        ([line(0, 1), line(0, 0, context_string=" \n")], ":2: context_string says something"),
        ([line(0, 0), line(0, 1, context_string="")], ":2: context_string says something"),
        ([line(0, 0, gold_answers=""), line(0, 1, gold_answers="")], ":1: gold_answers says"),
        ([{"input_index": 0}], ":1: .*'assigned_process'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, lines: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=rf"pairs\.jsonl{complaint}"):
        NQSynth(written(tmp_path, *lines)).load()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl, which is none"):
        NQSynth(tmp_path / "absent.jsonl").load()


def test_without_a_path_the_file_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nq_synth").mkdir()
    written(tmp_path, line(0, 0), line(0, 1)).rename(tmp_path / FILE)

    monkeypatch.setenv("CONTRALIGN_DATA", str(tmp_path))
    assert len(NQSynth().load()) == 1

    monkeypatch.delenv("CONTRALIGN_DATA")
    with pytest.raises(ValueError, match=r"none is named\. Give its path .*--path FILE"):
        NQSynth().load()


def test_truncation_comes_before_the_scores(tmp_path: Path) -> None:
    row = {"id": "0", "prompt": "", "contrast": "", "gold": ["St. Louis"]}
    answer = " St. Louis . Who asks"

    assert NQSynth().score(row, answer) == {"em": 1, "contains": 1, "f1": 1}
    # Four words without the article and the period, of which two are right: F1 = 2 * 2 / (4 + 2).
    uncut = NQSynth(truncation="none").score(row, answer)
    assert uncut == {"em": 0, "contains": 1, "f1": pytest.approx(2 / 3)}
    assert NQSynth().score(row, "") == {"em": 0, "contains": 0, "f1": 0}


@pytest.mark.parametrize("metric", ["em", "contains", "f1"])
def test_the_metric_heads_a_summary_of_all_three(metric: str) -> None:
    row = {"id": "0", "prompt": "", "contrast": "", "gold": ["Rio"]}
    benchmark = NQSynth(metric=metric)
    answers = ["Rio", "in Rio"]
    summary = benchmark.summarise([Scored(row, a, benchmark.score(row, a)) for a in answers])

    assert next(iter(summary)) == benchmark.metric == metric
    # "in rio" against "rio": P = 1/2, R = 1, F1 = 2/3; the mean with 1 is 5/6.
    values = {name: estimate.value for name, estimate in summary.items()}
    assert values == {"em": 0.5, "contains": 1, "f1": pytest.approx(5 / 6)}


def test_it_is_a_benchmark_whose_version_follows_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, line(0, 0), line(0, 1))
    before = NQSynth(path).version

    assert isinstance(NQSynth(path), Benchmark)
    assert NQSynth(str(path)).version == before
    written(tmp_path, line(0, 0), line(0, 1), line(1, 0), line(1, 1))
    assert NQSynth(path).version != before


@pytest.mark.parametrize(
    ("option", "value"), [("metric", "rouge"), ("truncation", "word"), ("max_new_tokens", 0)]
)
def test_bad_options_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option} must be .*got {value!r}"):
        NQSynth(**{option: value})


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_the_published_file_holds_1000_pairs() -> None:
    benchmark = NQSynth(Path(os.environ["CONTRALIGN_DATA"], FILE))
    rows = benchmark.load()

    assert [row["id"] for row in rows] == [str(index) for index in range(1000)]
    assert rows[0]["gold"] == ["Brian Urlacher"]
    start = "Answer the following question: \nQuestion: "
    for row in rows:
        question = row["contrast"].removeprefix(start)
        assert question != row["contrast"]
        assert row["prompt"].endswith(
            f" \nUsing only the references listed above, answer the following question: \n"
            f"Question: {question}"
        )
        assert benchmark.score(row, row["gold"][0])["em"] == 1
