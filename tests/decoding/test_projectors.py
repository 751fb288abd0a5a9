"""The projector of every family, and readers that share what the tower sees."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from eval_doubles import tiny_llama
from peft import LoraConfig, get_peft_model
from projected import drawn, swapped
from torch import nn
from vision_cases import Setting
from vision_table import FAMILIES
from vlms import family

from contralign.decoding.eyes import Eyes, eyes, sees_itself
from contralign.decoding.projectors import modules, projector, tensors

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PLACES = {
    "Qwen2-VL": ["model.visual.merger"],
    "Qwen2.5-VL": ["model.visual.merger"],
    "Qwen3-VL": ["model.visual.merger", "model.visual.deepstack_merger_list.0"],
    "SmolVLM": ["model.connector"],
    "Idefics3": ["model.connector"],
    "InstructBLIP": ["language_projection"],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_it_in_its_place(name: str) -> None:
    model = family(name)[0]
    assert projector(model) == PLACES.get(name, ["model.multi_modal_projector"])
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in tensors(model).items())


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_readers_see_as_two_models_and_look_once(name: str) -> None:
    case = Setting(name, "vcd")
    model, inputs = case.model, case.inputs
    own = Eyes(model)
    readers = [own.through(None), own.through(modules(model, drawn(model, "negative")))]
    others = [model, swapped(model, "negative")]
    for reader, other in zip(readers, others, strict=True):
        assert torch.equal(reader(**inputs).logits, other(**inputs).logits)
    assert [sees_itself(one) for one in (*readers, model)] == [True, False, True]
    assert [eyes(one) for one in (*readers, model)] == [own, own, None]


@torch.no_grad()
def test_other_pictures_are_looked_at_anew_and_in_any_order() -> None:
    case = Setting("Qwen3-VL", "vcd")
    negative = modules(case.model, drawn(case.model, "negative"))
    own, other = Eyes(case.model), swapped(case.model, "negative")
    first, second = own.through(None), own.through(negative)
    darker = {**case.inputs, "pixel_values": case.inputs["pixel_values"] / 2}
    for reader, model in ((first, case.model), (second, other)):
        for inputs in (darker, case.inputs, darker):
            assert torch.equal(reader(**inputs).logits, model(**inputs).logits)


def test_adapters_are_no_part_of_it() -> None:
    model = family("LLaVA-1.5")[0]
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    tuned = get_peft_model(copy.deepcopy(model), config).get_base_model()
    assert tensors(tuned).keys() == tensors(model).keys()
    assert all(torch.equal(tensors(tuned)[name], x) for name, x in tensors(model).items())
    (made,) = modules(tuned).values()
    assert {type(layer) for layer in made.children() if hasattr(layer, "weight")} == {nn.Linear}
    assert not {id(x) for x in made.parameters()} & {id(x) for x in tuned.parameters()}


def changed(**parts: Any) -> Any:
    model = copy.deepcopy(family("LLaVA-1.5")[0])
    for name, part in parts.items():
        setattr(model.model, name, part)
    return model


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (tiny_llama(), "LlamaForCausalLM reads text alone"),
        (
            changed(multi_modal_projector=nn.Linear(32, 32), connector=nn.Linear(2, 2)),
            "several: mo",
        ),
        (changed(multi_modal_projector=None), "has none. Take a model of a family"),
    ],
)
def test_none_and_several_are_refused(model: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        projector(model)


def test_an_offloaded_one_is_refused() -> None:
    model = changed()
    model.model.multi_modal_projector.to("meta")
    with pytest.raises(ValueError, match="is offloaded, so another can't stand in"):
        modules(model)
