"""English text into words, as NLTK's `word_tokenize` does with lower-cased captions.

The conventions of the Penn Treebank: marks are words of their own, contractions are split, and a
period only at the end of a sentence. Sentences end as Punkt has them end in text without capitals:
a period after an abbreviation, an initial or a number doesn't end one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_ENDING = re.compile(r"[.!?]+[\"')\]]*(?=\s)")
_ABBREVIATION = re.compile(
    r"(?:^|\s)(?:[a-z]|(?:[a-z]\.)+[a-z]|\d+|dr|mr|mrs|ms|jr|sr|st|vs|inc|co|corp|ltd)\.$"
)
_MARKS = re.compile(r"\.{2,}|\u2026|--|[;@#$%&*?!()\[\]{}<>\"\u201c\u201d]|``|''")
_SEPARATORS = re.compile(r"[:,](?!\d)")
_LAST_PERIOD = re.compile(r"(?<!\.)\.(?=[\s\"')\]}>\u201d]*$)")
_CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))(?=[\s']|$)")
_QUOTES = re.compile(r"(?:^|(?<=\s))'(?=\w)|(?<=[^'\s])'(?=\s|$)")
_JOINED = re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(gim|lem)(me)\b")


def words(text: str) -> list[str]:
    """Split a text into lower-case words and marks."""
    return [word for sentence in sentences(text.lower()) for word in _split(sentence)]


def sentences(text: str) -> Iterator[str]:
    """Split a text where a mark, perhaps with a quote or bracket after it, ends a sentence."""
    begun = 0
    for ending in _ENDING.finditer(text):
        if not _ABBREVIATION.search(text[begun : ending.end()]):
            yield text[begun : ending.end()]
            begun = ending.end()
    yield text[begun:]


def complete_sentences(text: str) -> str:
    """Drop what follows the last period: a caption that was cut off says half a thing there."""
    return text[: text.rfind(".") + 1]


def _split(sentence: str) -> list[str]:
    spaced = _LAST_PERIOD.sub(" . ", sentence)
    for marks in (_MARKS, _SEPARATORS):
        spaced = marks.sub(r" \g<0> ", spaced)
    spaced = _QUOTES.sub(" ' ", spaced)
    spaced = _CONTRACTION.sub(r" \1 ", spaced)
    spaced = _JOINED.sub(lambda found: " ".join(filter(None, found.groups())), spaced)
    return spaced.split()
