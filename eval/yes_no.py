"""Yes/no answers: what each named parser makes of a text, and the measures of what was said.

"Yes" is the positive class. The rules are read off the scripts they are named after; they differ on
the very texts that decide between methods, so a number without its parser's name means little.

- `official`: AoiDragon/POPE @08d957b `evaluate.py`, LLaVA's too. The first sentence without commas;
  "No", "no" or "not" among its words is no, everything else, nothing included, is yes.
- `vcd`: DAMO-NLP-SG/VCD @d6568ff. The verdict depends on the label: yes-questions want the letters
  "yes", no-questions the letters "no", which "snowboard" and "know" have.
- `opera`: shikiw/OPERA @61426ef. "No", "no", "NO", "not" or a word on "n't" anywhere is no.
- `repope`: YanNeu/RePOPE @bcf22e5. The letters "yes", else the letters "no"; others are dropped
  from every denominator.
- `lmms`: EvolvingLMMs-Lab/lmms-eval @75571cf. The text must be "yes" or "no" and nothing else;
  others count as wrong, but not against recall. Its own yes ratio is that of the labels.
- `vlmevalkit`: open-compass/VLMEvalKit @e8e78f0. The word "yes" or the word "no", but not both;
  other texts count as wrong.
- `ours`, the default: the opening word if it is a yes or a no; else negation or affirmation if the
  text has just one of the two and doesn't say that it can't tell. Other texts count as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from contralign.decoding.checks import one_of

Said = Literal["yes", "no"] | None

_YES = frozenset(("yes", "yeah", "yep", "yup"))
_NO = frozenset(("no", "nope", "nah"))
_NEGATION = _NO | {"not", "none", "never", "neither", "nothing", "cannot"}
_UNSURE = re.compile(
    r"\b(unknown|unclear|unsure|uncertain|maybe|perhaps|unable|impossible|possibly"
    r"|(?:not|n't|cannot|hard|difficult) (?:\w+ )?(?:to )?"
    r"(?:know|sure|certain|tell|determine|say|clear|answer|possible|confirm|identify)\w*)\b"
)
_WORD = re.compile(r"n't\b|[a-z]+?(?=n't\b)|[a-z]+")
_LEAD = re.compile(r"\W*(?:(?:the |my |final )*answer(?: is)?\W+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Parser:
    """One reading of texts, with what becomes of those that it can't read.

    Attributes:
        read: The text and the label give "yes", "no", or None for neither.
        in_accuracy: Unparsed texts count in the denominators of accuracy and yes ratio.
        in_recall: An unparsed text to a yes-question counts as a miss.
    """

    read: Callable[[str, str | None], Said]
    in_accuracy: bool = True
    in_recall: bool = True


def parse(text: str, parser: str = "ours", label: str | None = None) -> Said:
    """Read a text as yes or no.

    Args:
        text: What the model said.
        parser: A name in `PARSERS`.
        label: The right answer, which `vcd` needs.

    Raises:
        ValueError: No such parser, or `vcd` without a label.
    """
    one_of("parser", parser, PARSERS)
    return PARSERS[parser].read(text, label)


def _official(text: str, _: str | None) -> Said:
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & {*words} else "yes"


def _vcd(text: str, label: str | None) -> Said:
    if label not in ("yes", "no"):
        raise ValueError(
            f"the verdict of the parser vcd depends on the label, 'yes' or 'no', got {label!r}."
        )
    said = text.lower().strip()
    if label == "yes":
        return "yes" if "yes" in said else "no"
    return "no" if "no" in said else "yes"


def _opera(text: str, _: str | None) -> Said:
    words = text.replace(".", "").replace(",", "").split(" ")
    denied = {"No", "not", "no", "NO"} & {*words} or any(word.endswith("n't") for word in words)
    return "no" if denied else "yes"


def _repope(text: str, _: str | None) -> Said:
    said = text.lower()
    return "yes" if "yes" in said else "no" if "no" in said else None


def _lmms(text: str, _: str | None) -> Said:
    said = text.lower().strip()
    return "yes" if said == "yes" else "no" if said == "no" else None


def _vlmevalkit(text: str, _: str | None) -> Said:
    words = _without_punctuation(text.lower()).split()
    return _only({"yes"} & {*words}, {"no"} & {*words})


def _without_punctuation(text: str) -> str:
    """Delete marks beside a blank, turn others into one, and drop periods before no digit."""
    numbers = re.search(r"\d,\d", text) is not None
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        beside = f"{mark} " in text or f" {mark}" in text
        text = text.replace(mark, "" if beside or numbers else " ")
    return re.sub(r"\.(?!\d)", "", text)


def _ours(text: str, _: str | None) -> Said:
    said = _LEAD.sub("", text.lower().replace("\u2019", "'"), count=1)
    words = _WORD.findall(said)
    opening = [word for word in words[:3] if word not in ("and", "or")][:2]
    if opening and opening[0] in _YES | _NO:
        kinds = {"yes" if word in _YES else "no" for word in opening if word in _YES | _NO}
        return None if len(kinds) > 1 else "yes" if opening[0] in _YES else "no"
    if _UNSURE.search(said.replace("n't", " n't")):
        return None
    denied = [word for word in words if word in _NEGATION or word == "n't"]
    affirmed = [word for word in words if word in _YES]
    if not denied and re.search(r"\bthere(?:'s| is| are) (?!any\b)\w", said):
        return "yes"
    return _only(affirmed, denied)


def _only(affirmed: object, denied: object) -> Said:
    if bool(affirmed) == bool(denied):
        return None
    return "yes" if affirmed else "no"


PARSERS: Mapping[str, Parser] = {
    "ours": Parser(_ours),
    "official": Parser(_official),
    "vcd": Parser(_vcd),
    "opera": Parser(_opera),
    "repope": Parser(_repope, in_accuracy=False, in_recall=False),
    "lmms": Parser(_lmms, in_recall=False),
    "vlmevalkit": Parser(_vlmevalkit),
}
