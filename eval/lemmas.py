"""Words of a caption in the form that CHAIR looks up: three readings, without any download.

CHAIR counts words, so its numbers depend on how "buses" becomes "bus". Each reading is a table of
the forms of the words that matter, see `chair_words`; other words stay as they are, since nothing
looks at them.

- `pattern`: the singulars of clips/pattern @d25511f, as in LisaAnne/Hallucination @6e4d33c and
  Maxlinn/CHAIR-metric-standalone @640c507. It takes the s of "bus", "glass" and "tennis" for a
  plural's, so that a bus is never seen while two buses are.
- `wordnet`: WordNet 3.0's lemmas by part of speech, as in shikiw/OPERA @61426ef, whose copies most
  decoding papers use. "men" is a word of WordNet and stays; "vases" becomes "vas"; whoever is
  seated, or skis, is counted as a chair or as skis. Verbs are told from nouns by rules over the
  neighbors, which stand in for NLTK's tagger and were fitted to the totals of the three caption
  files that OPERA released: those come out exactly, but nothing says how close other captions come.
- `ours`, the default: regular and irregular plurals of nouns, nothing else. Orange is a fruit where
  no noun follows and no other color is near.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .chair_words import OFFICIAL, OURS, Vocabulary

Lemmatizer = Callable[[Sequence[str]], list[str]]

_IRREGULAR = {
    "calf": "calves",
    "child": "children",
    "gentleman": "gentlemen",
    "goose": "geese",
    "grandchild": "grandchildren",
    "knife": "knives",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "pocketknife": "pocketknives",
    "policeman": "policemen",
    "serviceman": "servicemen",
    "thief": "thieves",
    "woman": "women",
}
_SIBILANTS = ("s", "x", "ch", "sh")


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("y") and word[-2] not in "aeou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(_SIBILANTS) else f"{word}s"


def _forms(vocabulary: Vocabulary) -> dict[str, str]:
    """Plural -> the word, and the word itself, for every word that matters."""
    words = [word for word in vocabulary.parts() if word != "knive"]
    return {_plural(word): word for word in words} | {word: word for word in words}


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BOTH = {"children": "child", "oxen": "ox", "skis": "ski", "sports": "sport"}
_PATTERN = _forms(OFFICIAL) | _BOTH
_PATTERN |= {"people": "person", "bus": "bu", "airbus": "airbu", "minibus": "minibu"}
_PATTERN |= {"glass": "glas", "tennis": "tenni", "ties": "ty", "canoes": "cano", "magpies": "magpy"}
_PATTERN |= {word: word for word in ("collies", "doggies", "thieves")}

# Plurals of words that WordNet 3.0 doesn't have, and "scooters", fitted with the rules below.
_NO_PLURALS = _set(
    "men bikers bluejays brindles coworkers firetrucks hairdryers lenovos longboards macbooks "
    "netbooks paddleboats pitbulls riverboats sailboards scooters shortboards skimboards "
    "smartphones soliders stovetops teddybears televisons"
)
_WORDNET = _forms(OFFICIAL) | _BOTH | {"vases": "vas", "doggies": "doggy"}
_WORDNET |= {word: word for word in _NO_PLURALS}
_OURS = _forms(OURS)

_VERBS = _set(
    "backpack bicycle bike book bow bottle canoe chair clock couch duck ferry fork horse kayak "
    "knife man microwave monitor motorbike motorcycle park phone plane pot purse sandwich seat "
    "ship sink skateboard ski snowboard spoon stool table telephone tie train truck"
)
_DOUBLING = ("man", "pot", "ship")
_BE = _set("is are was were be been being")
_ADVERBS = _set("also soon actively comfortably")
_PREPOSITIONS = _set("about at by for from in into like of on to with without")
_SUBJECTS = _set("person people man woman men women boy girl child children them , and or")
_CLOSED = _PREPOSITIONS | _set(
    ", . ; : ) and or down across up through over together around confidently having her his their "
    "its the a"
)


def _participles() -> dict[str, str]:
    found = {"tying": "tie"}
    for verb in _VERBS:
        stem = verb + verb[-1] if verb in _DOUBLING else verb.removesuffix("e")
        found |= {f"{stem}ing": verb, f"{stem}ed": verb}
    return found


_PARTICIPLES = _participles()


def by_pattern(words: Sequence[str]) -> list[str]:
    """Look up each word as `pattern` singularizes it."""
    return [_PATTERN.get(word, word) for word in words]


def by_wordnet(words: Sequence[str]) -> list[str]:
    """Look up each word as WordNet's lemma of the part of speech that the neighbors suggest."""
    return [
        _PARTICIPLES[word]
        if word in _PARTICIPLES and _is_verb(words, index)
        else _WORDNET.get(word, word)
        for index, word in enumerate(words)
    ]


def by_ours(words: Sequence[str]) -> list[str]:
    """Look up each word's singular."""
    return [
        _OURS.get(word, word) if word != "orange" or _is_fruit(words, index) else "orange color"
        for index, word in enumerate(words)
    ]


LEMMATIZERS: Mapping[str, Lemmatizer] = {
    "ours": by_ours,
    "pattern": by_pattern,
    "wordnet": by_wordnet,
}


def _is_verb(words: Sequence[str], index: int) -> bool:
    word, after = words[index], _at(words, index + 1)
    before = _at(words, index - 1)
    if word in ("parking", "potted", "snowboarding"):
        return (word, before) == ("parking", "and") or (
            (word, before, _at(words, index + 2)) == ("potted", "of", "and")
        )
    if before == "of":
        return after not in _CLOSED
    if before in _ADVERBS:
        before = _at(words, index - 2)
    if before in _BE:
        return True
    if word.endswith("ed") or after not in _CLOSED:
        return False
    return before in _SUBJECTS or (after == "." and before not in _PREPOSITIONS)


_COLORS = _set("red yellow green blue white black brown pink purple gray grey tan")
_NO_FRUIT_BEFORE = _set("is are in of bright dark light mostly")
_NO_NOUN = _set(
    ". , ; : ! ? ) and or on in at by is are was were has next near beside to with from that which "
    "sitting placed"
)


def _is_fruit(words: Sequence[str], index: int) -> bool:
    around = {*words[max(0, index - 2) : index], *words[index + 1 : index + 4]}
    before, after = _at(words, index - 1), _at(words, index + 1)
    return after in _NO_NOUN and before not in _NO_FRUIT_BEFORE and not around & _COLORS


def _at(words: Sequence[str], index: int) -> str:
    return words[index] if 0 <= index < len(words) else "."
