"""What a run of MPO keeps of its scores and its split: files to look at, and to use again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from math import floor, nextafter
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from contralign.files import differences, replace_text
from contralign.folder import SETTINGS

from ..curves import BLUE, GRAY, GREEN, RED, STYLE
from ..data.write import write_rows
from ..rewards import Question
from ..rewards.scores import SCORES
from ..saving import WEIGHTS, refuse_used
from .split import Split

EASY, DIFFICULT = "easy.jsonl", "difficult.jsonl"
SPLIT, PICTURE = "split.json", "split.png"
FIRST, SECOND = "stage1", "stage2"
POLICY = "policy.json"
SETS = ("target_modules", "modules_to_save", "exclude_modules")
PIECES = (SETTINGS, SCORES, SPLIT, FIRST, SECOND)


def check_place(folder: Path, resume: str | bool | None) -> None:
    """Refuse a folder that holds another run, or nothing to go on with.

    Args:
        folder: Of the run.
        resume: Whether to go on with what is there.

    Raises:
        ValueError: With the way out.
    """
    there = [name for name in PIECES if (folder / name).exists()]
    if not resume:
        if there:
            raise ValueError(
                f"{folder} holds a run already ({there[0]}). Go on with it: resume_from_checkpoint "
                "true; or choose another output_dir."
            )
        refuse_used(folder)
        return
    if resume is not True:
        raise ValueError(
            "MPO finds the stage and the checkpoint to go on from by itself, got "
            f"resume_from_checkpoint {resume}. Set it to true."
        )
    if SETTINGS not in there:
        raise ValueError(
            f"{folder} has no run of MPO to resume. Leave out resume_from_checkpoint to start anew."
        )


def write_split(
    folder: Path,
    made: Split,
    questions: Sequence[Question],
    scores: Sequence[Sequence[float]],
    rule: Mapping[str, Any],
) -> None:
    """Write both sides as rows for `contralign train`, then the numbers and the picture.

    What is there of the same split stays, and what is missing of it is written again.

    Args:
        folder: Of the run.
        made: The split.
        questions: The pairs.
        scores: Of the chosen and the rejected answer of each pair.
        rule: How the split was asked for.

    Raises:
        ValueError: A stage was trained on another split.
    """
    digest = sha256(json.dumps([list(pair) for pair in scores]).encode()).hexdigest()[:16]
    told = {**made.summary(), **rule, "digest": digest}
    file = folder / SPLIT
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        changed = list(differences(before, told))
        if not changed and all((folder / name).exists() for name in (EASY, DIFFICULT, PICTURE)):
            return
        trained = [name for name in (FIRST, SECOND) if (folder / name).exists()]
        if changed and trained:
            raise ValueError(
                f"{folder / trained[0]} is of another split: {'; '.join(changed)}. Resume with the "
                f"settings it had; or delete {' and '.join(trained)} to train on the new split."
            )
    for name, side in ((EASY, made.easy), (DIFFICULT, made.difficult)):
        write_rows(folder / name, _rows(side, made, questions, scores))
    draw(made, folder / PICTURE)
    replace_text(file, json.dumps(told, indent=2) + "\n")


def _rows(
    side: Sequence[int],
    made: Split,
    questions: Sequence[Question],
    scores: Sequence[Sequence[float]],
) -> Iterator[dict[str, Any]]:
    """Pairs in TRL's format, better answer first where they were flipped."""
    flipped = set(made.flipped)
    for index in side:
        one, (chosen, rejected) = questions[index], (0, 1)
        if index in flipped:
            chosen, rejected = rejected, chosen
        columns = dict(one.columns)
        if "images" in columns:
            columns.pop("image", None)
        yield {
            **columns,
            "prompt": one.prompt,
            "chosen": one.completions[chosen],
            "rejected": one.completions[rejected],
            "score_chosen": scores[index][chosen],
            "score_rejected": scores[index][rejected],
        }


def draw(made: Split, file: Path) -> None:
    """Draw the histogram of gaps, each by what becomes of its pair, with gamma."""
    flipped, easy = set(made.flipped), set(made.easy)
    sides: dict[str, tuple[str, Sequence[int]]] = {
        "easy": (BLUE, [i for i in made.easy if i not in flipped]),
        "easy, flipped": (GREEN, [i for i in made.flipped if i in easy]),
        "difficult": (RED, made.difficult),
        "dropped": (GRAY, made.dropped),
    }
    there = {name: side for name, side in sides.items() if side[1]}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axis = figure.subplots()
        axis.hist(
            [[made.gaps[i] for i in rows] for _, rows in there.values()],
            edges(made.gaps, made.gamma),
            stacked=True,
            color=[color for color, _ in there.values()],
            label=[f"{len(rows)} {name}" for name, (_, rows) in there.items()],
        )
        lines = [made.gamma, *([-made.gamma] if made.flipped else [])]
        for place in lines:
            label = f"gamma = {made.gamma:.4g}" if place == made.gamma else None
            axis.axvline(place, color="black", linewidth=1.2, linestyle="--", label=label)
        axis.set_xlabel("reward of the chosen answer, less that of the rejected one")
        axis.set_ylabel("pairs")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=5)
        axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, dpi=150)


def edges(gaps: Sequence[float], gamma: float) -> list[float]:
    """Choose bins of one width; 0 and gamma of either sign begin one, if it's within the gaps."""
    low, high = min(*gaps, 0.0), max(*gaps, 0.0)
    count = min(40, max(8, len(gaps) // 8))
    width = (high - low) / count or 1.0
    inside = low < abs(gamma) <= high or low <= -abs(gamma) < 0
    # A gamma so near to 0 would make bins without number.
    steps = round(abs(gamma) / width) if inside else 0
    width = abs(gamma) / steps if steps else width
    first, last = floor(low / width) - (low == -abs(gamma)), floor(high / width) + 1
    # A gap of gamma begins its bin, and one of -gamma, which is as large, ends the bin before.
    exact = {steps: abs(gamma), -steps: nextafter(-abs(gamma), 0.0)} if steps else {}
    return [exact.get(k, k * width) for k in range(first, last + 1)]


def weights_digest(folder: Path) -> str:
    """Name a model or an adapter by its files."""
    found = sha256()
    for file in sorted(folder.glob("*")):
        if file.name == "adapter_config.json":
            # PEFT writes sets, of any order, as lists.
            told = json.loads(file.read_text(encoding="utf-8"))
            meant = {
                k: sorted(v) if k in SETS and isinstance(v, list) else v for k, v in told.items()
            }
            found.update(json.dumps(meant, sort_keys=True).encode())
        elif WEIGHTS.fullmatch(file.name):
            found.update(file.name.encode() + b"\0")
            with file.open("rb") as opened:
                while block := opened.read(2**20):
                    found.update(block)
    return found.hexdigest()[:32]


def record_policy(folder: Path, course: Mapping[str, Any]) -> None:
    """Write down which weights stage 1 ended with, and what decided them."""
    told = {"weights": weights_digest(folder), "course": course}
    replace_text(folder / POLICY, json.dumps(told, indent=2) + "\n")


def recorded_policy(folder: Path, course: Mapping[str, Any]) -> str | None:
    """The digest of a finished stage 1; None if it isn't finished.

    Args:
        folder: Of stage 1.
        course: What would decide its weights now.

    Raises:
        ValueError: There are other weights than the recorded ones, or other settings.
    """
    file = folder / POLICY
    there = [path for path in folder.glob("*") if WEIGHTS.fullmatch(path.name)]
    if not file.exists():
        if there and not list(folder.glob("checkpoint-*")):
            raise ValueError(
                f"{folder} holds weights ({there[0].name}) that no finished stage 1 has left. "
                "Delete the folder to train stage 1 again."
            )
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    if weights_digest(folder) != told["weights"]:
        raise ValueError(
            f"{folder} isn't the stage-1 policy that was recorded there: its weights have changed. "
            "Put them back, or delete the folder to train stage 1 again."
        )
    if changed := list(differences(told["course"], json.loads(json.dumps(course)))):
        raise ValueError(
            f"{folder} was trained with other settings: {'; '.join(changed)}. Resume with those; "
            "or delete it, and stage2, to train again."
        )
    return str(told["weights"])
