from __future__ import annotations

import json
import os
import re
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contralign.eval.qa import METRICS, TRUNCATIONS, contains, exact_match, f1, normalize, truncate

WORDS = st.lists(st.sampled_from(["the", "New", "york", "St.", "1,000", "é", "pol", "a"]))
TEXTS = st.text() | WORDS.map(" ".join)


def squad(text: str) -> str:
    """SpARE's normalization, written out letter by letter."""
    kept = [c for c in unicodedata.normalize("NFD", text).lower() if c not in string.punctuation]
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", "".join(kept)).split())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles.", "beatles"),
        ("an apple, a day", "apple day"),
        ("theater", "theater"),
        ("1,000", "1000"),
        ("Jean-Paul", "jeanpaul"),
        ("Åland", "åland"),
        ("The", ""),
    ],
)
def test_normalizes_case_punctuation_articles_and_blanks(text: str, normal: str) -> None:
    assert normalize(text) == normal


@given(TEXTS)
def test_composed_and_decomposed_letters_are_the_same(text: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert normalize(composed) == normalize(decomposed)


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_exact_match_reproduces_every_stored_flag_of_nq_swap() -> None:
    path = Path(os.environ["CONTRALIGN_DATA"], "nq_swap_outputs", "3shot-seed42-results.json")
    rows = json.loads(path.read_text())
    found = {
        kind: [exact_match(row["pred_answer"], row[kind]) for row in rows]
        for kind in ("sub_answer", "org_answer")
    }

    assert len(rows) == 1089
    assert {kind: sum(flags) for kind, flags in found.items()} == {
        "sub_answer": 522,
        "org_answer": 289,
    }
    for kind, flags in found.items():
        assert flags == [row[f"{kind}_em"] for row in rows]


@given(TEXTS, TEXTS)
def test_exact_match_agrees_with_spare_on_text_without_marks(answer: str, gold: str) -> None:
    answer, gold = (text.encode("ascii", "ignore").decode() for text in (answer, gold))
    assert exact_match(answer, [gold]) == float(squad(answer) == squad(gold))


@pytest.mark.parametrize(
    ("answer", "gold", "held"),
    [
        ("It is in Poland.", "pol", 0),
        ("It is in Poland.", "Poland", 1),
        ("the mayor of New York City", "The New York", 1),
        ("new in York", "New York", 0),
        ("York", "New York", 0),
        ("They were The Beatles!", "Beatles", 1),
        ("about 1000 people", "1,000", 1),
        ("about 1,000 people", "1", 0),
        ("Paris's mayor", "Paris", 0),
        ("", "Paris", 0),
        ("Paris", "The", 0),
        ("a", "the", 1),
    ],
)
def test_contains_looks_for_whole_words_in_a_row(answer: str, gold: str, held: int) -> None:
    assert contains(answer, [gold]) == held


@given(TEXTS, TEXTS)
def test_contains_is_a_naive_search_for_a_run_of_words(answer: str, gold: str) -> None:
    words, wanted = normalize(answer).split(), normalize(gold).split()
    runs = [words[start : start + len(wanted)] for start in range(len(words))]
    expected = wanted in runs if wanted else not words
    assert contains(answer, [gold]) == float(expected)


def test_f1_by_hand() -> None:
    # "it is new york" (4 words) and "new york city" (3): 2 shared, P = 2/4, R = 2/3, F1 = 4/7.
    assert f1("It is New York.", ["New York City"]) == pytest.approx(4 / 7)
    # "york york" and "york": 1 shared, P = 1/2, R = 1.
    assert f1("York York", ["York"]) == pytest.approx(2 / 3)
    assert f1("", ["York"]) == 0


@given(TEXTS, TEXTS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(answer: str, gold: str) -> None:
    words, wanted = normalize(answer).split(), normalize(gold).split()
    left, shared = list(wanted), 0
    for word in words:
        if word in left:
            left.remove(word)
            shared += 1
    expected = float(words == wanted)
    if shared:
        precision, recall = shared / len(words), shared / len(wanted)
        expected = 2 * precision * recall / (precision + recall)
    assert f1(answer, [gold]) == pytest.approx(expected)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_an_exact_match_is_contained_and_has_f1_1(answer: str, golds: list[str]) -> None:
    if exact_match(answer, golds):
        assert contains(answer, golds) == f1(answer, golds) == 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_best_of_several_golds_counts(metric: Callable[..., float]) -> None:
    assert metric("Rio", ["Lyon", "Rio"]) == metric("Rio", ["Rio", "Lyon"]) == 1
    assert metric("Rio", ["Lyon", "Nice"]) == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("golds", ["Rio", []])
def test_golds_are_a_list_that_is_not_empty(metric: Callable[..., float], golds: object) -> None:
    with pytest.raises(ValueError, match=r"list of one or more accepted answers, got ('Rio'|\[\])"):
        metric("Rio", golds)


@pytest.mark.parametrize(
    ("rule", "cut"),
    [
        ("none", "It is Rio . Who\n asks?"),
        ("line", "It is Rio . Who"),
        ("sentence", "It is Rio"),
    ],
)
def test_each_rule_cuts_where_it_says(rule: str, cut: str) -> None:
    assert truncate("\n It is Rio . Who\n asks? \n", rule) == cut


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Rio\nQuestion: Who?", "Rio"),
        ("Rio \r\nWho", "Rio"),
        ("It is:\n\nRio \nWho", "It is:\n\nRio"),
        ("It is: \nthe answer:\nRio\nWho", "It is: \nthe answer:\nRio"),
        ("", ""),
    ],
)
def test_the_first_line_goes_on_after_a_colon(text: str, line: str) -> None:
    assert truncate(text, "line") == line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("It lies in St. Louis. Who asks?", "It lies in St. Louis"),
        ("About 1,000 of 3.5 million. Others left.", "About 1,000 of 3.5 million"),
        ("The season consisted of 23 episodes . Who", "The season consisted of 23 episodes"),
        ("W. Edwards Deming. He was", "W. Edwards Deming"),
        ("T.J. Miller. He was", "T.J. Miller"),
        ("Louis Gossett Jr.", "Louis Gossett Jr."),
        ("She (Mrs. Smith) won. Yes.", "She (Mrs. Smith) won"),
        ('It is "Rio." Others say', 'It is "Rio'),
        ("Rio\nIt is. So", "Rio"),
        ("The answer is:\nRio. It", "The answer is:\nRio"),
        ("Yahoo! Inc. was it. Really", "Yahoo! Inc. was it"),
        ("Vitamin C. It is", "Vitamin C. It is"),
        ("no period", "no period"),
        (".", ""),
        ("", ""),
    ],
)
def test_a_sentence_ends_at_a_period_but_not_at_an_abbreviation(text: str, sentence: str) -> None:
    assert truncate(text, "sentence") == sentence


@pytest.mark.parametrize("rule", TRUNCATIONS)
@given(text=TEXTS)
def test_truncating_keeps_a_beginning_and_is_done_at_once(rule: str, text: str) -> None:
    cut = truncate(text, rule)
    assert text.strip().startswith(cut)
    assert rule == "sentence" or truncate(cut, rule) == cut


def test_an_unknown_rule_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="none, line, sentence, got 'word'"):
        truncate("Rio", "word")
