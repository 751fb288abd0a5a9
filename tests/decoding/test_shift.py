"""What every method on pictures shares: its checks, its seeds, and how several add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from align_vlms import picture
from vision_reference import prompt
from vlms import family

from contralign.decoding import (
    CAD,
    ICD,
    M3ID,
    METHODS,
    RITUAL,
    VCD,
    VDD,
    Composed,
    Shift,
    encode,
    generate,
    parse,
)

ON_PICTURES = [name for name, kind in METHODS.items() if issubclass(kind, Shift)]
ROWS = [("What?", [picture(0)]), ("Why?", [picture(1), picture(2)])]


@pytest.fixture
def llava() -> tuple[Any, Any]:
    return family("LLaVA-1.5")


def given(reader: Any, rows: Any = ROWS) -> tuple[Any, Any]:
    return [prompt(reader, row) for row in rows], [images for _, images in rows]


@pytest.mark.parametrize("name", [*ON_PICTURES, "ritual+vcd"])
def test_a_prompt_without_a_picture_is_named(name: str, llava: Any) -> None:
    model, reader = llava
    messages, images = given(reader, [*ROWS, ("Who?", [])])
    method = parse(name).method
    kind = type(method).__name__
    with pytest.raises(ValueError, match=rf"{kind} is about pictures, but prompts \[2\] have none"):
        method.branches(reader, messages, images, model=model)
    with pytest.raises(ValueError, match=r"prompts \[0\] have none"):
        method.branches(reader, messages[2:], model=model)


@pytest.mark.parametrize("name", ON_PICTURES)
def test_a_model_without_an_image_processor_is_refused(name: str, llava: Any) -> None:
    with pytest.raises(ValueError, match=r"plain tokenizer and images for prompts \[0\]"):
        METHODS[name]().branches(llava[1].tokenizer, ["What?"], [[picture()]])


@pytest.mark.parametrize("name", ON_PICTURES)
def test_a_broken_picture_is_named_with_its_prompt(name: str, llava: Any) -> None:
    messages, images = given(llava[1])
    images = [images[0], [images[1][0], b"no picture"]]
    with pytest.raises(ValueError, match="prompt 1: an image: cannot identify"):
        METHODS[name]().branches(llava[1], messages, images, model=llava[0])


def test_a_text_method_holds_the_same_pictures_against_another_text(llava: Any) -> None:
    model, reader = llava
    messages, images = given(reader)
    contrast, _ = given(reader, [("a", images[0]), ("b", images[1])])
    (branch,) = CAD().branches(reader, messages, images, contrast)
    assert torch.equal(branch["pixel_values"], encode(reader, messages, images)["pixel_values"])
    with pytest.raises(ValueError, match="prompt 0 has 0 places for 1 pictures"):
        CAD().branches(reader, messages, images, ["a", "b"])
    with pytest.raises(ValueError, match="reads 1 contrast branch"):
        generate(model, encode(reader, messages, images), VCD(), max_new_tokens=2)


def test_seeds_are_drawn_from_pytorch_where_none_are_given(llava: Any) -> None:
    messages, images = given(llava[1])

    def pixels(**options: Any) -> torch.Tensor:
        return VCD().branches(llava[1], messages, images, **options)[0]["pixel_values"]

    torch.manual_seed(1)
    first, second = pixels(), pixels()
    torch.manual_seed(1)
    assert torch.equal(pixels(), first)
    assert not torch.equal(second, first)
    assert torch.equal(pixels(seeds=[1, 2]), pixels(seeds=[1, 2]))
    with pytest.raises(ValueError, match="seeds needs one per prompt, got 1 for 2"):
        pixels(seeds=[1])


def test_the_parts_of_a_composition_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 2, 5, generator=generator)
    both = Composed((RITUAL(), VDD("both")))
    assert both.contrasts == 3
    parts = RITUAL().shift(0, *logits[:2]) + VDD("both").shift(0, logits[0], *logits[2:])
    torch.testing.assert_close(both.shift(0, *logits), parts)
    faded = Composed((RITUAL(), M3ID()))
    assert not torch.equal(faded.at(40)(*logits[:3]), faded.at(0)(*logits[:3]))


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((VCD(),), r"two or more different methods, got \['VCD'\]"),
        ((VCD(), VCD(0.5)), r"different methods, got \['VCD', 'VCD'\]"),
        ((VCD(), RITUAL(cutoff=0.2)), r"share one plausibility cutoff, got \[0.1, 0.2\]"),
    ],
)
def test_a_composition_has_different_parts_and_one_cutoff(parts: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Composed(parts)


# Two tokens; the expert says [2, 1].
HAND = [
    (VCD(alpha=0.5), 0, [[0.0, 1.0]], [3.0, 1.0]),  # 1.5 * 2 - 0, 1.5 * 1 - 0.5
    (VDD("unk"), 0, [[1.0, 3.0]], [3.0, -1.0]),
    (VDD("both"), 0, [[1.0, 3.0], [3.0, 1.0]], [2.0, 0.0]),  # the mean is [2, 2]
    (M3ID(), 0, [[5.0, -5.0]], [2.0, 1.0]),  # g = 1: no contrast
    (M3ID(decay=0.6931471805599453), 1, [[1.0, 2.0]], [3.0, 0.0]),  # g = 1/2: l + (l - l')
    (M3ID(decay=0.6931471805599453), 2, [[1.0, 2.0]], [5.0, -2.0]),  # g = 1/4: l + 3 (l - l')
    (RITUAL(), 0, [[1.0, 0.0]], [5.0, 1.0]),
    (RITUAL(kappa=1.0, normalize=True), 0, [[0.0, 2.0]], [1.0, 1.5]),
    (ICD(), 0, [[1.0, 2.0]], [3.0, 0.0]),
    (Composed((RITUAL(), VCD())), 0, [[1.0, 0.0], [0.0, 1.0]], [7.0, 1.0]),
]


@pytest.mark.parametrize(("method", "step", "contrasts", "expected"), HAND, ids=str)
def test_scores_worked_out_by_hand(
    method: Any, step: int, contrasts: list[list[float]], expected: list[float]
) -> None:
    logits = [torch.tensor(x) for x in [[2.0, 1.0], *contrasts]]
    torch.testing.assert_close(method.at(step)(*logits), torch.tensor(expected))


def test_the_cutoff_is_the_experts() -> None:
    expert, contrast = torch.tensor([3.0, 0.0, -9.0]), torch.tensor([9.0, 0.0, -99.0])
    # log 0.1 = -2.3: the second token falls short by 0.7, whatever the contrast says.
    assert VCD().rule(expert, contrast).isfinite().tolist() == [True, False, False]
    assert VCD(cutoff=0.04).rule(expert, contrast).isfinite().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: VCD(alpha=-1.0), "alpha must be at least 0"),
        (lambda: VCD(noise_step=1000), "noise_step must be below 1000, got 1000"),
        (lambda: VCD(noise_step=-1), "noise_step must be at least 0"),
        (lambda: parse("vdd:counterfactual=neither"), "takes Literal.* got 'neither'"),
        (lambda: M3ID(decay=-0.1), "decay must be at least 0"),
        (lambda: RITUAL(kappa=-3.0), "kappa must be at least 0"),
        (lambda: ICD(instruction=" "), "instruction must be a line of text"),
        (lambda: ICD(instruction="a@b"), "instruction must be a line of text"),
        (lambda: VCD(cutoff=0.0), "cutoff must lie in"),
    ],
)
def test_parameters_are_checked(build: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()


def test_long_answers_do_not_overflow() -> None:
    logits = [torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0])]
    assert M3ID().at(10**6)(*logits).isfinite().all()
