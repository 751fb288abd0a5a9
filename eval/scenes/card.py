"""The model as a folder: weights, processor, and a card that says how they were made."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import contralign

from ..machine import versions

if TYPE_CHECKING:
    from .training import Recipe

SHIPPED = Path(__file__).parent / "weights" / "scenes"
CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---

# A small LLaVA that sees the Scenes of contralign

{parameters:.1f} million parameters in the architecture of LLaVA: a CLIP tower, a linear projector
and a Llama, with a vocabulary of {words} words. It describes pictures of the controlled world in
`contralign.eval.scenes`, and answers yes or no about what is in them. It is made to hallucinate:
it learned from pictures that are hard to see, of things that usually come together. Use it to see
what a decoding method or a training loss does, not for what it says.

All of it is made by code, the training pictures too; nothing was downloaded. It was made by

```bash
{command}
```

with contralign {version}, seed {seed}, and {versions}. The same command on the same
versions makes the same weights up to rounding. Its recipe:

```json
{recipe}
```
"""


def shipped() -> Path:
    """The folder of the model that comes with the package; `contralign scenes train` made it."""
    return SHIPPED


def save(model: Any, processor: Any, recipe: Recipe, folder: Path, command: str) -> None:
    """Write a folder that `from_pretrained` loads, with its card.

    Args:
        model: As `train` returned it.
        processor: Likewise.
        recipe: What made it.
        folder: Is made if it isn't there.
        command: What a reader would type.
    """
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    used = {name: versions()[name] for name in ("torch", "transformers", "numpy")}
    card = CARD.format(
        parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
        words=len(processor.tokenizer),
        command=command,
        version=contralign.__version__,
        seed=recipe.world.seed,
        versions=", ".join(f"{name} {number}" for name, number in used.items()),
        recipe=json.dumps(asdict(recipe), indent=2),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
