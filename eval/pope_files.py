"""The files of POPE and its relatives, and which of the circulating versions one is.

AoiDragon/POPE @08d957b (MIT): JSON lines in spite of `.json`; its SEEM files are JSON arrays. The
COCO files circulate in three versions. The oldest, @e3e39262, which LLaVA's documentation pins,
has 2910 instead of 3000 random questions, whose numbers shift, and "imange" in many questions; the
nine files of DAMO-NLP-SG/VCD (Apache-2.0), which most decoding papers use, kept some of those. So
answers are matched by number or by image and question, never by position alone. RePOPE's files
(YanNeu/RePOPE) correct labels and leave ambiguous questions out. POPEv2 is an array with
capitalised labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .ask import Row
from .jsonl import digest
from .records import Record, field, read_records

SPLITS = ("random", "popular", "adversarial")
NAMES = (
    "{dataset}_pope_{split}.json",
    "{dataset}_pope_seem_{split}.json",
    "{dataset}_repope_{split}.json",
)

VERSIONS: Mapping[str, str] = {
    "ac25245170b9": "POPE @08d957b and VCD",
    "72c1a8ad45d0": "POPE @08d957b",
    "420b3407db1f": "POPE @08d957b",
    "c16b65d2df6d": "POPE @e3e39262",
    "5b16653023bf": "POPE @e3e39262",
    "1d8f0906a9b5": "POPE @e3e39262",
    "fa3a986eb3d5": "VCD",
    "185d7eb49958": "VCD",
    "900c244605e8": "VCD",
    "792d586a875c": "VCD",
    "87f9acb460fc": "VCD",
    "1c1117ce33df": "VCD",
    "e48e138bd61d": "VCD",
    "64a3bdeb8d24": "VCD",
}
"""First digits of a file's SHA-256 -> the release that it is of."""


def question_files(folder: Path, dataset: str, splits: Sequence[str]) -> dict[str, Path]:
    """Find the file of each split in a folder, under POPE's, SEEM's or RePOPE's name.

    Raises:
        FileNotFoundError: One is missing.
    """
    found = {}
    for split in splits:
        names = [name.format(dataset=dataset, split=split) for name in NAMES]
        there = [folder / name for name in names if (folder / name).is_file()]
        if not there:
            raise FileNotFoundError(
                f"{folder} has no {' or '.join(names)}. POPE's files are in output/coco of "
                "https://github.com/AoiDragon/POPE, the nine of most papers in "
                "experiments/data/POPE of https://github.com/DAMO-NLP-SG/VCD."
            )
        found[split] = there[0]
    return found


def read_questions(path: Path, split: str) -> list[Row]:
    """Read a file of questions.

    Args:
        path: Of POPE, RePOPE or POPEv2.
        split: What the rows' `split` says, and their ids begin with.

    Returns:
        Rows with `id`, `question_id`, `image`, `question`, `label` and `gold` ("yes" or "no"),
        `split`.

    Raises:
        OSError: The file can't be read.
        ValueError: A record is broken, or a question_id stands twice; names the file and the line.
    """
    rows: dict[str, Row] = {}
    for number, record in enumerate(read_records(path), 1):
        row = _row(record, split, number)
        if row["id"] in rows:
            raise ValueError(
                f"{record[0]}: every question has a question_id of its own, got "
                f"{row['question_id']} a second time. Is the file two files in one?"
            )
        rows[row["id"]] = row
    return list(rows.values())


def version(path: Path) -> str:
    """Digest a file of questions, with the name of the release that it is of, if it's known."""
    found = digest(path)
    return f"{VERSIONS[found]}:{found}" if found in VERSIONS else found


def same_question(question: str) -> str:
    """A question as all versions have it: without the "imange" of some."""
    return question.replace("imange", "image").strip()


def _row(record: Record, split: str, number: int) -> Row:
    place, value = record
    label = field(record, ("label",)).strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"{place}: a label is yes or no, got {value['label']!r}.")
    own = value.get("question_id", number)
    return {
        "id": f"{split}/{own}",
        "question_id": own,
        "image": field(record, ("image", "image_name")),
        "question": field(record, ("text", "query", "question")),
        "label": label,
        "gold": label,
        "split": split,
    }
