"""A tiny model with eyes answers asks that have pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from align_vlms import picture
from vision_reference import decoded, kept, noised, prompt, shown
from vlms import family

from contralign.decoding import parse
from contralign.eval.ask import Ask, Row, Scored
from contralign.eval.model import LanguageModel
from contralign.eval.runner import run
from contralign.eval.statistics import Estimate, mean_estimate

STEPS = 5
ROWS = [("What is this?", [picture(0)]), ("Why?", [picture(1, 40, 80), picture(2)])]
ASKS = [Ask(text, images=tuple(images), max_new_tokens=STEPS) for text, images in ROWS]


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(*family("LLaVA-1.5"))


def texts(model: LanguageModel, name: str, asks: list[Ask] = ASKS, **options: Any) -> list[str]:
    seeds = list(range(len(asks)))
    return [answer.text for answer in model.answers(asks, parse(name), seeds, **options)]


@pytest.mark.parametrize("name", ["greedy", "vcd"])
def test_a_batch_with_pictures_answers_as_a_naive_loop_does(
    model: LanguageModel, name: str
) -> None:
    reader = model.processor
    branches = [[shown(reader, row) for row in ROWS]]
    if name == "vcd":
        branches.append([noised(reader, row, seed, 500) for seed, row in enumerate(ROWS)])

    def rule(step: int, expert: Any, *noise: Any) -> Any:
        expert = expert.clone()
        expert[model.model.config.image_token_id] = -1e4
        return kept(expert, 2 * expert - noise[0]) if noise else expert

    expected, _ = decoded(model.model, branches, rule, STEPS)
    assert texts(model, name) == [
        reader.tokenizer.decode(x, skip_special_tokens=True) for x in expected
    ]


@pytest.mark.parametrize("name", ["ritual+vcd@sample", "vdd@beam2", "m3id", "icd", "ritual-plus"])
def test_an_answer_does_not_depend_on_its_batch(model: LanguageModel, name: str) -> None:
    alone = [model.answers([ask], parse(name), [seed])[0] for seed, ask in enumerate(ASKS)]
    assert [answer.text for answer in alone] == texts(model, name)


def test_one_draw_of_noise_can_serve_many_questions(model: LanguageModel) -> None:
    asks = [Ask(text, images=ASKS[0].images, max_new_tokens=STEPS) for text in ("a?", "b?")]
    shared = model.answers(asks, parse("vcd"), [0, 1], noise_seeds=[7, 7])
    alone = [model.answers([ask], parse("vcd"), [7])[0] for ask in asks]
    assert [one.text for one in shared] == [one.text for one in alone]


def test_a_picture_that_cannot_be_opened_is_the_error_of_its_row(
    model: LanguageModel, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    asks = [ASKS[0], Ask("What?", images=(str(broken),), max_new_tokens=STEPS), ASKS[1]]
    model.check(asks, parse("vcd"))
    first, error, last = model.answers(asks, parse("greedy"), [0, 1, 2])
    assert error.error is not None
    assert error.error.startswith(f"{broken}: cannot identify image file")
    assert [first.text, last.text] == texts(model, "greedy")
    with pytest.raises(ValueError, match="broken"):
        model.check(asks[1:2], parse("greedy"))


def test_pictures_from_files_answer_as_those_in_memory(
    model: LanguageModel, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    ASKS[0].images[0].save(path)
    from_file = [Ask(ASKS[0].prompt, images=(str(path),), max_new_tokens=STEPS)]
    assert texts(model, "vcd", from_file) == texts(model, "vcd", ASKS[:1])


def test_without_a_template_the_pictures_stand_in_front(model: LanguageModel) -> None:
    raw = LanguageModel(model.model, model.processor, chat="off")
    assert raw.messages("What?", 2) == "<image>\n<image>\nWhat?"
    written = [Ask("USER: <image>\nWhat is this? ASSISTANT: ", images=ASKS[0].images)]
    asked = [Ask(ASKS[0].prompt, images=ASKS[0].images)]
    assert texts(raw, "greedy", written) == texts(model, "greedy", asked)


def test_the_system_turn_is_a_part_too(model: LanguageModel) -> None:
    brief = LanguageModel(model.model, model.processor, system="Be brief.")
    messages: Any = brief.messages("What?", 1)
    system, user = messages
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    assert user == prompt(model.processor, ("What?", [None]))[0]


def test_a_method_on_pictures_refuses_asks_of_text(model: LanguageModel) -> None:
    asks = [Ask("a", max_new_tokens=STEPS)]
    model.check(asks, parse("greedy"))
    with pytest.raises(ValueError, match="VCD is about pictures"):
        model.check(asks, parse("vcd"))


def test_the_image_processor_is_part_of_the_fingerprint(model: LanguageModel) -> None:
    other = LanguageModel(*family("InstructBLIP"))
    keys = ("image_processor", "pillow")
    assert all(key in model.fingerprint for key in keys)
    assert model.fingerprint["image_processor"] != other.fingerprint["image_processor"]


def test_a_model_with_eyes_loads_with_its_processor(model: LanguageModel, tmp_path: Path) -> None:
    model.model.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    loaded = LanguageModel.load(str(tmp_path), device="cpu")
    assert texts(loaded, "vcd") == texts(model, "vcd")


def test_a_q_former_is_asked_too() -> None:
    model = LanguageModel(*family("InstructBLIP"))
    asks = [Ask(ask.prompt, images=ask.images[:1], max_new_tokens=STEPS) for ask in ASKS]
    expected, _ = decoded(
        model.model, [[shown(model.processor, (q, i[:1])) for q, i in ROWS]], lambda t, x: x, STEPS
    )
    assert texts(model, "greedy", asks) == [
        model.tokenizer.decode(x, skip_special_tokens=True) for x in expected
    ]


@dataclass(frozen=True)
class Mixed:
    """A row with a picture, one whose file is broken, one without, and one with a picture again."""

    broken: str

    name: ClassVar[str] = "mixed"
    version: ClassVar[str] = "1"
    metric: ClassVar[str] = "length"

    def load(self) -> list[Row]:
        pictures = [(picture(0),), (self.broken,), (), (picture(1),)]
        return [{"id": f"row{i}", "images": images} for i, images in enumerate(pictures)]

    def ask(self, row: Row) -> Ask:
        return Ask("What?", images=row["images"], max_new_tokens=STEPS)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return {"length": float(len(answer))}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return {"length": mean_estimate([float(len(one.answer)) for one in scored])}


def test_what_a_method_cannot_do_is_the_error_of_its_row(
    model: LanguageModel, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    names = ["greedy", "ritual+vcd@sample"]
    result = run(
        Mixed(str(broken)), model, [parse(n) for n in names], tmp_path / "run", batch_size=4
    )
    plain, mixed = result.outcomes
    assert list(plain.errors) == ["row1"]
    assert sorted(mixed.errors) == ["row1", "row2"]
    assert "cannot identify image file" in mixed.errors["row1"]
    assert "is about pictures" in mixed.errors["row2"]
    assert [one.row["id"] for one in mixed.scored] == ["row0", "row3"]
