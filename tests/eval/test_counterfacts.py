from __future__ import annotations

import math
import re
from collections import Counter
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pytest

from contralign.eval.ask import Benchmark, Scored
from contralign.eval.counterfacts import CONTEXTS, PROMPTS, Counterfacts
from contralign.eval.jsonl import read_jsonl
from contralign.eval.qa import contains, normalize

FIELDS = {"answer": list, "counter": list} | dict.fromkeys(
    ("id", "relation", "question", "agree", "conflict"), str
)
FACTS = read_jsonl(files("contralign.eval") / "data" / "counterfacts.jsonl", FIELDS)
ROWS = {row["id"]: row for row in Counterfacts().load()}
CONFLICT, AGREE = ROWS["capital-france/conflict"], ROWS["capital-france/agree"]


def test_the_shipped_file_is_large_and_mixed() -> None:
    relations = Counter(fact["relation"] for fact in FACTS)

    assert len(FACTS) >= 160
    assert len(relations) >= 15
    assert min(relations.values()) >= 10


@pytest.mark.parametrize("field", ["id", "question", "agree", "conflict"])
def test_no_two_facts_share(field: str) -> None:
    assert [text for text, n in Counter(fact[field] for fact in FACTS).items() if n > 1] == []


def test_every_fact_has_exactly_the_fields_and_a_readable_id() -> None:
    for fact in FACTS:
        assert set(fact) == set(FIELDS)
        assert re.fullmatch(rf"{fact['relation']}-[a-z0-9-]+", fact["id"])
        assert fact["question"].endswith("?")


def test_accepted_answers_are_short_and_none_repeats_another() -> None:
    for fact in FACTS:
        for names in (fact["answer"], fact["counter"]):
            normal = [normalize(name) for name in names]
            assert names
            assert all(normal)
            assert len(set(normal)) == len(names), names
            assert all(name == " ".join(name.split()[:4]) for name in names), names


def test_a_context_is_one_to_three_sentences() -> None:
    for fact in FACTS:
        for context, name in ((fact["agree"], fact["answer"]), (fact["conflict"], fact["counter"])):
            plain = context.replace(name[0], "it")
            assert plain.endswith(".")
            assert len(re.findall(r"[.?!](?: |$)", plain)) <= 3, context


def test_a_context_states_one_answer_and_the_question_none() -> None:
    for fact in FACTS:
        answer, counter = fact["answer"], fact["counter"]
        assert contains(fact["agree"], answer), fact["id"]
        assert not contains(fact["agree"], counter), fact["id"]
        assert contains(fact["conflict"], counter), fact["id"]
        assert not contains(fact["conflict"], answer), fact["id"]
        assert not contains(fact["question"], answer + counter), fact["id"]


def test_no_true_answer_holds_a_counterfactual_one_or_the_reverse() -> None:
    for fact in FACTS:
        assert not any(contains(name, fact["counter"]) for name in fact["answer"]), fact["id"]
        assert not any(contains(name, fact["answer"]) for name in fact["counter"]), fact["id"]


def test_the_contexts_of_a_fact_differ_in_the_answer_alone() -> None:
    for fact in FACTS:
        answer = rf"\b{re.escape(fact['answer'][0])}\b"
        assert re.sub(answer, fact["counter"][0], fact["agree"]) == fact["conflict"]


def test_a_row_holds_what_its_context_says_and_what_it_does_not() -> None:
    assert (AGREE["gold"], AGREE["other"]) == (["Paris"], ["Lyon"])
    assert (CONFLICT["gold"], CONFLICT["other"]) == (["Lyon"], ["Paris"])
    for row in ROWS.values():
        assert contains(row["context"], row["gold"])
        assert not contains(row["context"], row["other"])


def test_contexts_select_rows() -> None:
    ids = {contexts: {row["id"] for row in Counterfacts(contexts).load()} for contexts in CONTEXTS}

    assert ids["both"] == ids["agree"] | ids["conflict"]
    assert len(ids["both"]) == 2 * len(FACTS) == 2 * len(ids["agree"])
    assert all(name.endswith("/conflict") for name in ids["conflict"])


def test_the_first_rows_cover_all_relations() -> None:
    relations = {fact["relation"] for fact in FACTS}
    assert {row["relation"] for row in Counterfacts().load()[: 2 * len(relations)]} == relations


def test_the_prompts_are_adacads_to_the_blank() -> None:
    ask = Counterfacts().ask(CONFLICT)

    assert ask.prompt == (
        f"{CONFLICT['context']} \n"
        "Using only the references listed above, answer the following question: \n"
        "Question: What is the capital of France ?\n"
        "Answer:"
    )
    assert ask.contrast == (
        "Answer the following question: \nQuestion: What is the capital of France ?\nAnswer:"
    )
    assert ask.max_new_tokens == 32


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_contrast_is_the_same_for_both_contexts_and_tells_no_answer(prompt: str) -> None:
    benchmark = Counterfacts(prompt=prompt, max_new_tokens=5)
    agree, conflict = benchmark.ask(AGREE), benchmark.ask(CONFLICT)

    assert agree.contrast == conflict.contrast
    assert agree.prompt.replace("Paris", "Lyon") == conflict.prompt
    assert agree.contrast is not None
    assert not contains(agree.contrast, ["Paris", "Lyon"])
    assert agree.max_new_tokens == 5


def test_the_bare_prompt_is_context_and_question() -> None:
    ask = Counterfacts(prompt="bare").ask(AGREE)

    assert ask.prompt == f"{AGREE['context']}\n\nWhat is the capital of France?"
    assert ask.contrast == "What is the capital of France?"


@pytest.mark.parametrize(
    ("answer", "faithful", "parametric", "em", "held"),
    [
        ("Lyon", 1, 0, 1, 1),
        ("Lyon, of course.", 1, 0, 0, 1),
        ("The capital is Paris.", 0, 1, 0, 0),
        ("Lyon, although it is Paris", 0, 0, 0, 1),
        ("Nice", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
        ("Lyon\nQuestion: What is in Paris?", 1, 0, 1, 1),
    ],
)
def test_scores_of_a_conflict_row(
    answer: str, faithful: int, parametric: int, em: int, held: int
) -> None:
    values = dict(Counterfacts().score(CONFLICT, answer))

    assert values.pop("f1") is not None
    assert values == {"faithful": faithful, "parametric": parametric, "em": em, "contains": held}


def test_an_agreeing_row_has_no_parametric_answer() -> None:
    assert Counterfacts().score(AGREE, "Paris") == {"faithful": 1, "em": 1, "contains": 1, "f1": 1}


def test_truncation_decides_what_counts_as_the_answer() -> None:
    answer = "Lyon. In truth it is Paris."

    assert Counterfacts(truncation="line").score(CONFLICT, answer)["faithful"] == 0
    assert Counterfacts(truncation="sentence").score(CONFLICT, answer)["faithful"] == 1


def test_every_row_scores_1_on_its_gold_and_0_on_the_other() -> None:
    benchmark = Counterfacts()
    for row in ROWS.values():
        for gold in row["gold"]:
            assert benchmark.score(row, f" {gold}.\n")["faithful"] == 1
        for other in row["other"]:
            assert benchmark.score(row, f" {other}.\n")["faithful"] == 0


def summary_of(**answers: str) -> dict[str, Any]:
    benchmark = Counterfacts()
    rows = [ROWS[name.replace("__", "/").replace("_", "-")] for name in answers]
    scored = [
        Scored(row, answer, benchmark.score(row, answer))
        for row, answer in zip(rows, answers.values(), strict=True)
    ]
    return benchmark.summarise(scored)


def test_the_summary_by_hand() -> None:
    summary = summary_of(
        capital_france__agree="Paris",
        capital_france__conflict="Paris",
        capital_peru__conflict="Cusco",
        capital_japan__conflict="Tokyo",
        capital_norway__conflict="no idea",
    )

    assert next(iter(summary)) == Counterfacts.metric == "faithful"
    # Faithful are the first and the third of five; among the four conflict rows one.
    assert (summary["faithful"].value, summary["faithful"].n) == (2 / 5, 5)
    assert (summary["faithful/conflict"].value, summary["faithful/conflict"].n) == (1 / 4, 4)
    assert summary["faithful/agree"].value == 1
    # Parametric 2 of 4; M_R = 2 / (2 + 1), the fifth answer is neither.
    assert (summary["parametric"].value, summary["parametric"].n) == (2 / 4, 4)
    assert (summary["memorization"].value, summary["memorization"].n) == (2 / 3, 3)


def test_memorization_is_nan_where_no_answer_takes_a_side() -> None:
    assert math.isnan(summary_of(capital_france__conflict="no idea")["memorization"].value)


def test_it_is_a_benchmark_whose_version_names_its_facts() -> None:
    data = files("contralign.eval") / "data" / "counterfacts.jsonl"

    assert isinstance(Counterfacts(), Benchmark)
    assert Counterfacts().version.endswith(sha256(data.read_bytes()).hexdigest()[:12])


@pytest.mark.parametrize(
    ("option", "value"),
    [("contexts", "neither"), ("prompt", "x"), ("truncation", "word"), ("max_new_tokens", 0)],
)
def test_bad_options_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option} must be .*got {value!r}"):
        Counterfacts(**{option: value})
