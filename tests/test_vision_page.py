"""docs/vision.md says what the tests' table says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import vlms
from align_vlms import picture
from projected import drawn
from vision_reference import prompt
from vision_table import FAMILIES, GRIDS, PAGE, PICTURES, filled

from contralign.decoding import encode
from contralign.decoding.projections import Base, Projections

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == filled(page), "run: python tests/vision_table.py"


def test_the_table_names_every_family_of_the_tests() -> None:
    assert tuple(vlms.FAMILIES) == FAMILIES


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, which has no token that says yes."""
    model, reader = vlms.family("LLaVA-1.5")
    model.save_pretrained(tmp_path / "tiny")
    reader.save_pretrained(tmp_path / "tiny")
    picture().save(tmp_path / "dog.jpg")
    (tmp_path / "projections").mkdir()
    Projections(Base.of(model), drawn(model, "negative")).save(tmp_path / "projections")
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for block in blocks:
        tiny = block.replace("llava-hf/llava-1.5-7b-hf", "tiny").replace('"yes", "no"', '"y", "n"')
        exec(compile(tiny, str(PAGE), "exec"), known)
    assert known["ids"].shape[1] > known["inputs"]["input_ids"].shape[1]
    assert known["logps"].shape == (1, 2)
    assert known["complete"].all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tokens_of_a_picture_are_as_the_table_says(name: str) -> None:
    _, reader = vlms.family(name)
    sizes = [(20, 20), (70, 20), (200, 190)]
    lengths = {
        encode(reader, [prompt(reader, ("a", [image]))], [[image]])["input_ids"].shape[1]
        for image in (picture(0, *size) for size in sizes)
    }
    assert (len(lengths) > 1) == (name in GRIDS)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_pictures_of_a_prompt_are_as_the_table_says(name: str, count: int) -> None:
    _, reader = vlms.family(name)
    images = [picture(i) for i in range(count)]
    allowed = {"one": count == 1, "one or more": count >= 1}.get(PICTURES.get(name, ""), True)
    given = [prompt(reader, ("a", images))], [images]
    if allowed:
        assert len(encode(reader, *given)["input_ids"]) == 1
    else:
        with pytest.raises(ValueError, match="prompt 0"):
            encode(reader, *given)
