"""Trains the small model from nothing: its tower to name what it sees, then all of it to talk.

Naming goes through the projector and the language model's own word vectors, so that a patch enters
the language model as something close to the words for it. Ours; Radford et al. 2021 ("Learning
Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020) is where the idea
of a tower that is taught by words comes from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from .facts import COLUMNS, ROWS
from .kinds import COLORS, KINDS
from .lessons import Syllabus
from .network import EMPTY, Size, network, processor
from .pictures import Optics
from .sheets import IGNORED, loss, pixels, sheet
from .world import GRID, Scene, World

Progress = Callable[[str, int, float], None]
SILENT: Progress = lambda stage, step, loss: None  # noqa: E731
NAMES = (*KINDS, EMPTY), (*COLORS, EMPTY), ROWS, COLUMNS
"""The words for a place: what stands there, its color, and where that is."""
SHARPNESS = 16.0
"""What the cosines of naming are multiplied by."""


@dataclass(frozen=True)
class Recipe:
    """All that a model is made from.

    Attributes:
        naming_steps: Of the tower alone.
        steps: Of the whole model.
        batch_size: Pictures a step.
        lessons: Turns about each picture of a step, once the whole model learns.
        rate: The highest learning rate.
        size: Of the model.
        world: Its training scenes; its seed is that of weights and lessons too.
        optics: How badly it sees them.
        syllabus: What it is taught about them.
    """

    naming_steps: int = 1000
    steps: int = 2000
    batch_size: int = 32
    lessons: int = 6
    rate: float = 2e-3
    size: Size = field(default_factory=Size)
    world: World = field(default_factory=World)
    optics: Optics = field(default_factory=Optics)
    syllabus: Syllabus = field(default_factory=Syllabus)


def train(recipe: Recipe, progress: Progress = SILENT) -> tuple[Any, Any]:
    """Make a model.

    Args:
        recipe: How.
        progress: Told of the stage, the steps done and the step's loss.

    Returns:
        The model, ready to answer, and its processor.
    """
    reader = processor()
    model = network(recipe.size, reader.tokenizer, recipe.world.seed)
    scenes = _scenes(recipe)
    words = [[f"▁{word}" for word in names] for names in NAMES]
    ids = [torch.tensor(reader.tokenizer.convert_tokens_to_ids(names)) for names in words]

    def painted(batch: Sequence[Scene]) -> list[Image.Image]:
        return [recipe.optics.picture(scene) for scene in batch]

    def naming(batch: Sequence[Scene]) -> Tensor:
        places = F.normalize(_seen(model, pixels(painted(batch))), dim=-1)
        table = F.normalize(model.get_input_embeddings().weight, dim=-1)
        losses = [
            F.cross_entropy(SHARPNESS * places @ table[names].T, targets)
            for names, targets in zip(ids, named(batch), strict=True)
        ]
        return torch.stack(losses).sum()

    dice = random.Random(recipe.world.seed)

    def talking(batch: Sequence[Scene]) -> Tensor:
        lessons = [
            [recipe.syllabus.lesson(scene, dice) for _ in range(recipe.lessons)] for scene in batch
        ]
        return loss(model, sheet(reader, painted(batch), lessons))

    model.train()
    _descend(
        model, lambda: naming(next(scenes)), recipe.naming_steps, recipe.rate, "naming", progress
    )
    model.model.vision_tower.requires_grad_(False)
    _descend(model, lambda: talking(next(scenes)), recipe.steps, recipe.rate, "talking", progress)
    return model.requires_grad_(True).eval(), reader


def named(scenes: Sequence[Scene]) -> Int[Tensor, "4 places"]:
    """Number the words of `NAMES` for each place of each scene; nothing stands nowhere."""
    numbers = torch.full((len(NAMES), len(scenes), GRID**2), IGNORED)
    numbers[0], numbers[1] = len(KINDS), len(COLORS)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            kind, color = list(KINDS).index(thing.kind), list(COLORS).index(thing.color)
            numbers[:, row, thing.place] = torch.tensor([kind, color, *divmod(thing.place, GRID)])
    return numbers.flatten(1)


def _scenes(recipe: Recipe) -> Iterator[list[Scene]]:
    start = 0
    while True:
        yield recipe.world.scenes("train", recipe.batch_size, start)
        start += recipe.batch_size


def _seen(model: Any, values: Tensor) -> Float[Tensor, "places width"]:
    return torch.cat(list(model.model.get_image_features(values).pooler_output))


def _descend(
    model: Any,
    loss_of: Callable[[], Tensor],
    steps: int,
    rate: float,
    stage: str,
    progress: Progress,
) -> None:
    if not steps:
        return
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.1
    )
    for step in range(1, steps + 1):
        found = loss_of()
        optimizer.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        progress(stage, step, found.item())
