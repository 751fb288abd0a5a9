"""Which method on pictures works on which family: the tests' own table, and the page made of it.

`python tests/vision_table.py` writes it into docs/vision.md.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "vision.md"
BEGIN, END = "<!-- table: python tests/vision_table.py -->", "<!-- end of table -->"

COLUMNS = (
    "vcd",
    "vdd",
    "m3id",
    "icd",
    "ritual",
    "ritual-plus",
    "ritual+vcd",
    "ritual+m3id",
    "dcd",
    "ritual+dcd",
    "calibration",
)
FAMILIES = (
    "LLaVA-1.5",
    "LLaVA-OneVision",
    "Qwen2-VL",
    "Qwen2.5-VL",
    "Qwen3-VL",
    "SmolVLM",
    "Idefics3",
    "InternVL",
    "Gemma 3",
    "PaliGemma",
    "InstructBLIP",
)
# How many pictures a prompt can have; the others take any number, and none.
PICTURES = {"PaliGemma": "one or more", "InstructBLIP": "one"}
# The model's own grid decides how many tokens a picture is; elsewhere all are alike.
GRIDS = frozenset(
    ("LLaVA-OneVision", "Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL", "SmolVLM", "Idefics3", "InternVL")
)
# Pairs that don't work would stand here, each with a test of its refusal.
REFUSED: frozenset[tuple[str, str]] = frozenset()


def works(method: str, family: str) -> bool:
    """Whether a method, named with any parameters, is tested to work on a family."""
    bare = "+".join(part.partition(":")[0] for part in method.split("+"))
    assert bare in COLUMNS, f"{bare} has no column in the table"
    return (bare, family) not in REFUSED


def table() -> str:
    """The table in Markdown."""
    head = ["family", "pictures a prompt", "tokens a picture", *(f"`{name}`" for name in COLUMNS)]
    rows = [head, ["---"] * len(head)]
    for family in FAMILIES:
        pictures = PICTURES.get(family, "any number")
        tokens = "by its size" if family in GRIDS else "fixed"
        cells = ["yes" if works(name, family) else "no" for name in COLUMNS]
        rows.append([family, pictures, tokens, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def filled(page: str) -> str:
    """The page with the table in its place."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    assert len(pattern.findall(page)) == 1, "the page has one place for the table"
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
