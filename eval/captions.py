"""What a caption says: the objects that it names, as one of CHAIR's readings finds them."""

from __future__ import annotations

from dataclasses import dataclass

from contralign.decoding.checks import one_of

from .chair_words import OFFICIAL, OURS
from .lemmas import LEMMATIZERS
from .words import words


@dataclass(frozen=True)
class Reading:
    """What a caption says.

    Attributes:
        words: Its words, phrases read as one.
        found: Those that name an object.
        mentions: The kind of each, as often as it is named.
    """

    words: list[str]
    found: list[str]
    mentions: list[str]


def read_caption(caption: str, reading: str = "ours") -> Reading:
    """Find the objects that a caption names.

    Args:
        caption: English text.
        reading: A name in `lemmas.LEMMATIZERS`.

    Raises:
        ValueError: No such reading.
    """
    one_of("reading", reading, LEMMATIZERS)
    vocabulary = OURS if reading == "ours" else OFFICIAL
    said = vocabulary.merged(LEMMATIZERS[reading](words(caption)))
    # The seat of a toilet is no chair.
    skipped = {"seat"} if "toilet" in said else set[str]()
    found = [word for word in said if word in vocabulary.nodes and word not in skipped]
    return Reading(said, found, [vocabulary.nodes[word] for word in found])
