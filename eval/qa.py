"""Scores of short free-form answers: exact match, word F1, containment, and where an answer ends.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text",
arXiv 1606.05250, in the order of FiD's `src/evaluation.py` (facebookresearch/FiD @fe769f3).
Unicode is composed first (NFC). SpARE (@9008a05) decomposes it (NFD), which finds the same strings
equal but turns the `Å` of `Åland` into the article `a` and a stray mark.

AdaCAD and CAD report exact match but released no scorer, and say nowhere how the continuation of a
base model is cut before it is compared: `TRUNCATIONS` makes that a named choice.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from contralign.decoding.checks import one_of

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LINE_BREAK = re.compile(r"(?<=[^:\s])\s*\n")
_PERIOD = re.compile(r"""(?P<word>\S*)\.(?=["')\]]*(?:\s|$))""")
_ABBREVIATION = re.compile(
    r"\W*(?:[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]"
    r"|St|Ste|Mt|Ft|Dr|Mr|Mrs|Ms|Jr|Sr|Prof|Gen|Col|Capt|Lt|Sgt|Rev|Gov|Sen|Rep|Hon"
    r"|Inc|Ltd|Co|Corp|Bros|vs)"
)


def normalize(text: str) -> str:
    """Lower the case, delete ASCII punctuation, drop English articles, collapse blanks."""
    bare = unicodedata.normalize("NFC", text).lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals one of the golds after `normalize`, else 0.

    Raises:
        ValueError: `golds` is empty or a bare string.
    """
    return _best(lambda said, gold: float(said == gold), answer, golds)


def contains(answer: str, golds: Sequence[str]) -> float:
    """1 if the words of one of the golds stand together in the answer, else 0.

    Whole words after `normalize`, as in DPR's `has_answer`: "pol" is not in "Poland". What
    punctuation alone joins is one word: "Paris's" does not contain "Paris". A gold without words,
    as "The", is in an answer without words only, so that an exact match is always contained.

    Raises:
        ValueError: `golds` is empty or a bare string.
    """
    return _best(lambda said, gold: float(f" {gold} " in f" {said} "), answer, golds)


def f1(answer: str, golds: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of the answer's words, for the best of the golds.

    Words after `normalize`, counted as often as they stand. A side without words matches only
    another without words, as in SQuAD 2.0.

    Raises:
        ValueError: `golds` is empty or a bare string.
    """
    return _best(_overlap, answer, golds)


METRICS: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "em": exact_match,
    "contains": contains,
    "f1": f1,
}


def first_line(text: str) -> str:
    """Keep what stands before the first line break; one after a colon ("It is:") goes on.

    Leading blank lines are skipped.
    """
    return _LINE_BREAK.split(text.strip(), maxsplit=1)[0]


def first_sentence(text: str) -> str:
    """Keep the first sentence of `first_line`, without its period.

    A sentence ends at a period before a blank, a closing quote or bracket and a blank, or the end;
    so "1,000", "3.5" and "St.Louis" stay whole. No end is the period of a single letter ("W.
    Edwards Deming"), of letters with periods between ("T.J. Miller", "U.S."), or of a
    title or suffix ("St. Louis", "Dr.", "Jr.", "Inc."), even where a sentence does end there:
    then the answer goes on to the next end. "?" and "!" end nothing.
    """
    line = first_line(text)
    for period in _PERIOD.finditer(line):
        if not _ABBREVIATION.fullmatch(period["word"]):
            return line[: period.end("word")].rstrip()
    return line


TRUNCATIONS: Mapping[str, Callable[[str], str]] = {
    "none": str.strip,
    "line": first_line,
    "sentence": first_sentence,
}


def truncate(answer: str, rule: str) -> str:
    """Cut a generated text down to the answer.

    Args:
        answer: What the model generated.
        rule: A name in `TRUNCATIONS`.

    Raises:
        ValueError: No such rule.
    """
    one_of("truncation", rule, TRUNCATIONS)
    return TRUNCATIONS[rule](answer)


def _best(score: Callable[[str, str], float], answer: str, golds: Sequence[str]) -> float:
    if isinstance(golds, str) or not golds:
        raise ValueError(
            f"golds is a list of one or more accepted answers, got {golds!r}. Pass [answer]."
        )
    said = normalize(answer)
    return max(score(said, normalize(gold)) for gold in golds)


def _overlap(said: str, gold: str) -> float:
    words, wanted = said.split(), gold.split()
    if not words or not wanted:
        return float(words == wanted)
    shared = sum((Counter(words) & Counter(wanted)).values())
    return 2 * shared / (len(words) + len(wanted))
