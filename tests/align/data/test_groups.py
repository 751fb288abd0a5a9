"""Groups of completions with scores: what is read, refused, ordered and joined."""

from __future__ import annotations

import math
from typing import Any

import pytest
from align_tokenizers import shared
from datasets import Dataset, IterableDataset

from contralign.align.data import (
    NEEDS,
    PAIRS,
    PROMPTS,
    RANKINGS,
    SCORED,
    Needs,
    PairCollator,
    RowError,
    check,
    normalise,
    prepare,
)

GROUP: dict[str, Any] = {
    "prompt": "a b",
    "completions": [" c", " d e", " f"],
    "scores": [0.5, 2, -1],
}
PAIR = {"prompt": "a", "chosen": " b", "rejected": " c", "score_chosen": 1.0, "score_rejected": -2}
ONE = {"prompt": "a", "completion": " b", "score": 1.5, "baseline": 0.5}
TALK: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "hi"}],
    "completions": [[{"role": "assistant", "content": said}] for said in ("yes", "no")],
    "scores": [0, 1],
}
IDS = {word: shared("words").convert_tokens_to_ids(word) for word in ("c", "d", "e", "f", "<eos>")}


def changed(row: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {name: value for name, value in {**row, **columns}.items() if value != "gone"}


def ids(text: str) -> list[int]:
    return [IDS[word] for word in text.split()]


def test_completions_have_names_and_scores() -> None:
    assert normalise(GROUP, SCORED) == {
        "prompt": "a b",
        "completions[0]": " c",
        "completions[1]": " d e",
        "completions[2]": " f",
        "scores": [0.5, 2.0, -1.0],
    }
    assert normalise(PAIR, SCORED)["scores"] == [1.0, -2.0]
    one = normalise(ONE, SCORED)
    assert (one["completions[0]"], one["scores"], one["baseline"]) == (" b", [1.5], 0.5)


def test_numbers_that_nobody_reads_may_be_anything() -> None:
    row = changed(PAIR, score_chosen="high", label="good", baseline=None, margin=0.5)
    assert normalise(row, PAIRS).keys() == {"prompt", "chosen", "rejected", "margin"}
    assert normalise({**GROUP, "chosen": " b", "rejected": " c"}, PAIRS)["chosen"] == " b"


def test_of_prompts_nothing_else_is_read() -> None:
    for row in (GROUP, PAIR, {"prompt": "a b"}, {"chosen": "x y", "rejected": "x z"}):
        assert normalise(row, PROMPTS).keys() == {"prompt"}
    assert normalise(TALK, PROMPTS)["prompt"] == TALK["prompt"]


WRONG: list[tuple[dict[str, Any], Needs, str, str]] = [
    (GROUP, PAIRS, "unknown-format", "there are completions, where a pair is asked for"),
    ({**GROUP, "chosen": " b"}, SCORED, "unknown-format", "both completions and chosen"),
    (changed(GROUP, completions=None), SCORED, "missing-completion", "completions is empty"),
    (changed(GROUP, completions=[]), SCORED, "missing-completion", "completions is empty"),
    (changed(GROUP, completions=" c"), SCORED, "wrong-type", "completions is str"),
    (changed(GROUP, completions=[" c", 3]), SCORED, "wrong-type", "completions[1] is int"),
    (changed(GROUP, prompt=TALK["prompt"]), SCORED, "wrong-type", "the prompt is messages"),
    (changed(GROUP, prompt="gone"), SCORED, "missing-prompt", "need a column prompt"),
    (changed(GROUP, completions=[" c", "", " f"]), RANKINGS, "empty-completion", "completions[1]"),
    (changed(GROUP, completions=[" c"], scores=[1]), SCORED, "one-completion", "it has one"),
    (changed(ONE, baseline="gone"), SCORED, "one-completion", "it has one"),
    (changed(GROUP, completions=[" c"], scores="gone"), RANKINGS, "one-completion", "it has one"),
    (changed(GROUP, completions=[" c"] * 3), SCORED, "identical", "completions[1] is there twice"),
    (changed(GROUP, completions=[" c", " d", " c"]), RANKINGS, "identical", "completions[2]"),
    (changed(GROUP, scores="gone"), SCORED, "missing-score", "no scores"),
    (changed(GROUP, scores=[1, 2]), SCORED, "missing-score", "2 scores of 3 completions"),
    (changed(PAIR, score_chosen=None), SCORED, "missing-score", "no score_chosen"),
    (changed(GROUP, scores="high"), SCORED, "bad-number", "scores is str"),
    (changed(GROUP, scores=[1, "2", 3]), SCORED, "bad-number", "scores[1] is str '2'"),
    (changed(GROUP, scores=[1, math.nan, 3]), SCORED, "bad-number", "scores[1] is float nan"),
    (changed(PAIR, score_rejected="low"), SCORED, "bad-number", "score_rejected is str 'low'"),
    (changed(PAIR, score_rejected=math.nan), SCORED, "bad-number", "score_rejected is float nan"),
    (changed(GROUP, baseline=1.0), SCORED, "bad-number", "a baseline beside 3 completions"),
    (changed(GROUP, label=1.0), RANKINGS, "bad-number", "a label beside 3 completions"),
    (changed(PAIR, label=1.5), RANKINGS, "bad-number", "label is 1.5, outside [0, 1]"),
    (changed(PAIR, label="tie"), RANKINGS, "bad-number", "label is str 'tie'"),
    (changed(GROUP, scores=[1, 2, 1]), RANKINGS, "tied-scores", "scores are [1.0, 2.0, 1.0]"),
    ({"question": "a"}, PROMPTS, "missing-prompt", "the columns are question"),
]


@pytest.mark.parametrize(("row", "needs", "problem", "found"), WRONG)
def test_names_what_is_wrong(row: dict[str, Any], needs: Needs, problem: str, found: str) -> None:
    with pytest.raises(RowError) as refusal:
        normalise(row, needs)
    assert refusal.value.problem == problem
    assert found in refusal.value.found


@pytest.mark.parametrize("name", ["cpl", "copg"])
def test_groups_with_scores_come_best_first(name: str) -> None:
    rows, report = prepare(Dataset.from_list([GROUP]), shared("words"), None, needs=NEEDS[name])
    assert report.unusable == 0
    (row,) = rows
    assert row["completion_ids"] == [ids("d e <eos>"), ids("c <eos>"), ids("f <eos>")]
    assert row.get("scores") == (None if name == "cpl" else [2.0, 0.5, -1.0])


def test_a_ranking_without_scores_stays_in_its_order() -> None:
    given = Dataset.from_list([changed(GROUP, scores="gone")])
    rows, _ = prepare(given, shared("words"), None, needs=RANKINGS)
    assert rows[0]["completion_ids"][0] == ids("c <eos>")


def test_a_pair_stays_in_its_order_whatever_its_scores() -> None:
    given = Dataset.from_list(
        [
            changed(
                PAIR, prompt="a", chosen=" c", rejected=" d", score_chosen=-1.0, score_rejected=3.0
            )
        ]
    )
    rows, _ = prepare(given, shared("words"), None, needs=SCORED)
    assert rows[0]["completion_ids"] == [ids("c <eos>"), ids("d <eos>")]
    assert rows[0]["scores"] == [-1.0, 3.0]


def test_messages_are_read() -> None:
    rows, report = prepare(Dataset.from_list([TALK]), shared("chatml"), None, needs=SCORED)
    assert report.unusable == 0
    said = [shared("chatml").decode(answer) for answer in rows[0]["completion_ids"]]
    assert [text.split("<|im_end|>")[0] for text in said] == ["no", "yes"]


@pytest.mark.parametrize("kind", ["data", "stream", "check"])
def test_groups_of_another_size_are_errors(kind: str) -> None:
    odd = changed(GROUP, completions=[" c", " d"], scores=[1.0, 2.0])
    given = Dataset.from_list([GROUP, odd, GROUP])
    if kind == "check":
        report = check(given, needs=SCORED)
    else:
        data: Any = given if kind == "data" else given.to_iterable_dataset()
        rows, report = prepare(data, shared("words"), None, "drop", needs=SCORED)
        assert len(list(rows)) == 2
    assert [found.problem.name for found in report.ordered] == ["unequal-groups"]
    (example,) = report.findings["unequal-groups"].first
    assert (example.row, example.found) == (1, "it has 2 completions, the first row 3")


def test_batches_have_a_score_for_each_completion() -> None:
    rows, _ = prepare(
        Dataset.from_list([{**GROUP, "weight": 2.0}] * 2), shared("words"), None, needs=SCORED
    )
    batch = PairCollator(needs=SCORED)(list(rows))["batch"]
    assert batch.k == 3
    assert batch.columns["scores"].tolist() == [[2.0, 0.5, -1.0]] * 2
    assert batch.columns["weight"].tolist() == [2.0, 2.0]


def test_prompts_are_joined_with_their_rows() -> None:
    data = Dataset.from_list([PAIR, {**PAIR, "prompt": "b c"}])
    rows, _ = prepare(data, shared("words"), 8, needs=PROMPTS)
    assert rows.column_names == data.column_names
    found = PairCollator(shared("words"), 8, PROMPTS)(list(rows))
    assert found["batch"].k == 0
    assert [len(prompt) for prompt in found["batch"].prompts] == [1, 2]
    assert found["rows"][1]["prompt"] == "b c"


def test_prompts_are_not_streamed() -> None:
    stream: IterableDataset = Dataset.from_list([PAIR]).to_iterable_dataset()
    with pytest.raises(ValueError, match="but the data is a stream"):
        prepare(stream, shared("words"), None, needs=PROMPTS)
