"""Several lessons about one picture in one row of tokens: the picture once, then turn after turn.

A turn attends to the row's beginning, to the picture unless it is withheld from it, and to itself,
at the positions that it would have alone. What the model says of it is what it would say alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from .lessons import SEEN, Lesson
from .network import ROLES
from .world import GRID

PATCHES = GRID**2
START = 2
"""The tokens before the picture: the beginning and the user's role."""
IGNORED = -100
BEGINNING, PICTURE, FIRST, PADDING = 0, 1, 2, -1
"""What a token belongs to; turns are numbered from `FIRST` on."""


class Sheet(NamedTuple):
    """A batch of rows.

    Attributes:
        inputs: What the model takes.
        labels: The answers' tokens, `IGNORED` elsewhere.
        weights: Of each label: the tokens of an answer weigh 1 together.
    """

    inputs: dict[str, Tensor]
    labels: Int[Tensor, "rows width"]
    weights: Float[Tensor, "rows width"]


def sheet(
    reader: Any, pictures: Sequence[Image.Image], lessons: Sequence[Sequence[Lesson]]
) -> Sheet:
    """Encode some lessons about each picture, padded on the right."""
    rows = [_row(reader, turns) for turns in lessons]
    ids, labels, weights, positions, turns, sees = (
        torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=padding)
        for column, padding in zip(
            zip(*rows, strict=True),
            (reader.tokenizer.pad_token_id, IGNORED, 0.0, 0, PADDING, False),
            strict=True,
        )
    )
    inputs = {
        "input_ids": ids,
        "position_ids": positions,
        "attention_mask": attended(turns, sees),
        "pixel_values": pixels(pictures),
    }
    return Sheet(inputs, labels, weights)


def attended(
    turns: Int[Tensor, "rows width"], sees: Bool[Tensor, "rows width"]
) -> Bool[Tensor, "rows 1 width width"]:
    """Say which token attends to which: row by column.

    Args:
        turns: What each token belongs to.
        sees: Whether it may attend to the picture.
    """
    asking, asked = turns[:, :, None], turns[:, None, :]
    within = (asking == asked) | (asked == BEGINNING) | ((asked == PICTURE) & sees[:, :, None])
    return within.tril()[:, None]


def loss(model: Any, batch: Sheet) -> Float[Tensor, ""]:
    """The mean over turns of the mean over an answer's tokens: long answers weigh no more."""
    logits = model(**batch.inputs).logits[:, :-1]
    labels, weights = batch.labels[:, 1:], batch.weights[:, 1:]
    each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
    return (each * weights).sum() / weights.sum()


def pixels(pictures: Sequence[Image.Image]) -> Float[Tensor, "batch 3 side side"]:
    """Turn pictures of the world's size into what the processor makes of them, faster."""
    stacked = np.stack([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2)
    return torch.from_numpy(stacked.astype(np.float32) / 127.5 - 1)


def _row(reader: Any, lessons: Sequence[Lesson]) -> tuple[Tensor, ...]:
    """Ids, labels, weights, positions, turns and sight of a row's tokens."""
    words = reader.tokenizer
    start = words(f"{words.bos_token}{ROLES[0]}").input_ids
    image = words.convert_tokens_to_ids(SEEN)
    ids, labels = [*start, *[image] * PATCHES], [IGNORED] * (START + PATCHES)
    weights, positions = [0.0] * len(ids), [*range(len(ids))]
    turns, sees = [BEGINNING] * START + [PICTURE] * PATCHES, [True] * len(ids)
    for turn, lesson in enumerate(lessons, FIRST):
        asked = words(_prompt(lesson)).input_ids
        answer = words(lesson.answer + words.eos_token).input_ids
        first = START + PATCHES * (lesson.picture == SEEN)
        size = len(asked) + len(answer)
        ids += asked + answer
        labels += [IGNORED] * len(asked) + answer
        weights += [0.0] * len(asked) + [1 / len(answer)] * len(answer)
        positions += range(first, first + size)
        turns += [turn] * size
        sees += [lesson.picture == SEEN] * size
    return tuple(map(torch.tensor, (ids, labels, weights, positions, turns, sees)))


def _prompt(lesson: Lesson) -> str:
    """What comes after the beginning and the picture, as the chat template writes it."""
    said = lesson.prompt if lesson.picture == SEEN else f"{lesson.picture} {lesson.prompt}"
    return f" {said.strip()} {ROLES[1]}"
