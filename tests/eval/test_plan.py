"""The plan of a run: complete keys, equal asks asked once, batches that a second start repeats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from eval_doubles import Sums
from projected import drawn
from vlms import family

from contralign.decoding import Projections, parse
from contralign.decoding.projections import Base
from contralign.eval.ask import Ask
from contralign.eval.plan import Item, Plan, ask_digest, load_items, settings

ITEMS = load_items(Sums(), None)
OPTIONS: dict[str, Any] = {"limit": None, "batch_size": 4, "seed": 0, "execution": "auto"}


def plan(name: str = "greedy", **changed: Any) -> Plan:
    return Plan(parse(name), ITEMS, settings(Sums(), {"dtype": "none"}, **{**OPTIONS, **changed}))


def test_equal_asks_share_a_key_unless_they_are_sampled() -> None:
    greedy, sample = plan("greedy").keys, plan("sample").keys
    assert greedy["row0"] == greedy["row10"]
    assert len(set(greedy.values())) == 10
    assert len(set(sample.values())) == 12


@pytest.mark.parametrize(
    "other",
    [
        plan("greedy", seed=1),
        plan("greedy", batch_size=5),
        plan("greedy", limit=12),
        plan("greedy", execution="sequential"),
        plan("sample"),
        plan("cutoff-only"),
        Plan(parse("greedy"), ITEMS, settings(Sums(carry=False), {"dtype": "none"}, **OPTIONS)),
        Plan(parse("greedy"), ITEMS, settings(Sums(), {"dtype": "bfloat16"}, **OPTIONS)),
    ],
)
def test_whatever_an_answer_depends_on_changes_its_key(other: Plan) -> None:
    assert not set(plan().keys.values()) & set(other.keys.values())


def test_a_method_s_parameters_change_its_keys() -> None:
    keys = plan("cutoff-only:cutoff=0.1").keys
    assert keys == plan("cutoff-only").keys
    assert keys != plan("cutoff-only:cutoff=0.2").keys


def test_what_a_method_reads_from_a_folder_changes_its_keys(tmp_path: Path) -> None:
    model, keys = family("LLaVA-1.5")[0], []
    for side in ("negative", "positive"):
        Projections(Base.of(model), drawn(model, side)).save(tmp_path)
        keys.append(plan(f"dcd:path={tmp_path}").keys)
    assert not {*keys[0].values()} & {*keys[1].values()}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "other"},
        {"contrast": None},
        {"choices": ("yes", "no")},
        {"max_new_tokens": 5},
        {"images": (__file__,)},
        {"images": ("absent.png",)},
        {"reading": "labels"},
        {"draw": "a"},
    ],
)
def test_whatever_the_model_reads_changes_the_digest(change: dict[str, Any]) -> None:
    ask = Ask("prompt", contrast="contrast", max_new_tokens=4)
    assert ask_digest(ask) != ask_digest(dataclasses.replace(ask, **change))


def test_an_image_is_known_by_its_pixels() -> None:
    image = pytest.importorskip("PIL.Image")
    black, white = (image.new("RGB", (2, 2), color) for color in ("black", "white"))
    digests = [ask_digest(Ask("a", images=(each,))) for each in (black, black.copy(), white)]
    assert digests[0] == digests[1] != digests[2]


def test_batches_hold_every_key_once_with_the_longest_first() -> None:
    made = plan(batch_size=4)
    lengths = [[len(made.firsts[key].ask.prompt) for key in batch] for batch in made.batches]
    flat = [length for batch in lengths for length in batch]
    assert [len(batch) for batch in lengths] == [4, 4, 2]
    assert flat == sorted(flat, reverse=True)
    assert {key for batch in made.batches for key in batch} == set(made.keys.values())


def test_a_batch_has_one_max_new_tokens() -> None:
    longer = [
        dataclasses.replace(item, ask=dataclasses.replace(item.ask, max_new_tokens=9))
        for item in ITEMS[:3]
    ]
    made = Plan(parse("sample"), [*longer, *ITEMS[3:]], plan().settings)
    assert [len(batch) for batch in made.batches] == [3, 4, 4, 1]


def pictured(*images: str, reading: str = "labels") -> list[Item]:
    """An item for each picture, of growing length."""
    return [
        Item(
            str(i),
            {},
            Ask("x" * i, images=(image,), choices=("a", "b"), reading=reading, draw=image),
        )
        for i, image in enumerate(images, 1)
    ]


def test_closed_asks_about_one_picture_stay_together(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    images = [str(tmp_path / name) for name in "abaabaaaaaaaaaaaaaaaa"]
    made = Plan(parse("greedy"), pictured(*images), plan(batch_size=4).settings)
    batches = [[made.firsts[key].ask.images[0][-1] for key in batch] for batch in made.batches]
    assert sorted(map("".join, batches)) == sorted(["a" * 16, "aaa", "bb"])
    free = Plan(parse("greedy"), pictured(*images, reading="text"), made.settings)
    assert {len(batch) for batch in free.batches} == {4, 1}


def test_noise_is_drawn_for_an_ask_or_for_what_it_shares() -> None:
    items = [*pictured("a", "a", "b"), *ITEMS[:1]]
    made = Plan(parse("greedy"), items, plan().settings)
    first, second, other, own = (made.noise_seed(made.keys[item.id]) for item in items)
    assert first == second != other
    assert own == made.seed(made.keys[ITEMS[0].id])
    again = Plan(parse("greedy"), items, plan(seed=1).settings)
    assert again.noise_seed(again.keys[items[0].id]) != first
    # Sampling's own noise is never shared.
    assert made.seed(made.keys[items[0].id]) != made.seed(made.keys[items[1].id])


def test_a_closed_reading_needs_choices() -> None:
    with pytest.raises(ValueError, match=r"row 'a' has the reading 'labels', which .*, got \(\)"):
        load_items(Closed(rows=({"id": "a", "prompt": "x"},)), None)


def test_file_names_are_plain() -> None:
    assert plan("cutoff-only:cutoff=0.2@sample").file_name == "cutoff-only_cutoff=0.2@sample"


@dataclasses.dataclass(frozen=True)
class Given(Sums):
    rows: tuple[dict[str, Any], ...] = ()

    def load(self) -> list[Any]:
        return list(self.rows)

    def ask(self, row: Any) -> Ask:
        return Ask(row["prompt"])


@dataclasses.dataclass(frozen=True)
class Closed(Given):
    def ask(self, row: Any) -> Ask:
        return Ask(row["prompt"], reading="labels")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "sums has no rows"),
        ([{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}], "'a' twice"),
        ([{"id": "a", "prompt": " \n"}], "row 'a' asks an empty prompt"),
    ],
)
def test_broken_rows_are_refused(rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load_items(Given(rows=tuple(rows)), None)
