"""Models that hand their picture over to a language model are contrasted in that one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from align_vlms import picture
from vlms import EYES, family

from contralign.decoding import CAD, VCD, VDD, DoLa, Plain, encode, generate, wrap
from contralign.decoding.speaker import hands_over, speaker

GREEDY: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture
def blip() -> tuple[Any, Any, list[str], list[Any]]:
    model, reader = family("InstructBLIP")
    return model, reader, ["What is this?", "Why?"], [[picture(0)], [picture(1)]]


def test_the_whole_model_is_left_alone(blip: Any) -> None:
    model, reader, texts, images = blip
    language, before = model.language_model, dict(model.__dict__)
    inputs = encode(reader, texts, images)
    view = wrap(model, VCD(), VCD().branches(reader, texts, images))
    assert isinstance(view, hf.InstructBlipForConditionalGeneration)
    first, second = (view.generate(**inputs, **GREEDY) for _ in range(2))
    assert torch.equal(first, second)
    assert model.language_model is language
    assert model.__dict__ == before


def test_methods_of_text_work_on_it_too(blip: Any) -> None:
    model, reader, texts, images = blip
    inputs = encode(reader, texts, images)
    plain = model.generate(**inputs, **GREEDY)
    assert torch.equal(generate(model, inputs, Plain(), **GREEDY), plain)
    contrast = CAD().branches(reader, texts, images, ["this?", "y?"])
    assert not torch.equal(generate(model, inputs, CAD(), contrast, **GREEDY), plain)
    assert generate(model, inputs, DoLa(layers=(1,)), **GREEDY).shape == plain.shape


def test_other_embeddings_are_still_refused(blip: Any) -> None:
    model, reader, texts, images = blip
    inputs = encode(reader, texts, images)
    with pytest.raises(ValueError, match="custom_generate can't be combined"):
        generate(model, inputs, Plain(), custom_generate=lambda *a, **k: None)


def test_speakers_are_told_apart(blip: Any) -> None:
    model, llava = blip[0], family("LLaVA-1.5")[0]
    assert speaker(model) is model.language_model
    assert speaker(llava) is llava
    t5 = hf.InstructBlipConfig(
        vision_config=EYES,
        qformer_config={"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2},
        text_config={"model_type": "t5", "vocab_size": 32, "d_model": 32, "num_layers": 1},
    )
    encoder_decoder = hf.InstructBlipForConditionalGeneration(t5)
    assert not hands_over(encoder_decoder)
    with pytest.raises(ValueError, match="has a generate of its own"):
        wrap(encoder_decoder, VDD())


def test_blip_2_hands_over_too() -> None:
    reader = family("InstructBLIP")[1]
    whole = family("InstructBLIP")[0].config
    config = hf.Blip2Config(
        vision_config=EYES,
        qformer_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "encoder_hidden_size": 32,
        },
        text_config=whole.text_config.to_dict(),
        num_query_tokens=4,
        image_token_index=whole.image_token_index,
    )
    torch.manual_seed(0)
    model = hf.Blip2ForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.language_model.generation_config = hf.GenerationConfig(pad_token_id=0)
    inputs = encode(reader, ["What?"], [[picture(0)]])
    inputs = {key: x for key, x in inputs.items() if not key.startswith("qformer_")}
    (noise,) = VCD().branches(reader, ["What?"], [[picture(0)]], seeds=[1])
    branch = {key: x for key, x in noise.items() if not key.startswith("qformer_")}
    ids = generate(model, inputs, VCD(), branch, **GREEDY)[0, inputs["input_ids"].shape[1] :]
    with torch.no_grad():
        for step, token in enumerate(ids.tolist()):
            logits = []
            for given in (inputs, branch):
                grown = torch.cat([given["input_ids"], ids[None, :step]], dim=1)
                mask = torch.ones_like(grown)
                read = {**given, "input_ids": grown, "attention_mask": mask}
                logits.append(model(**read, use_cache=False).logits[0, -1])
            assert VCD().rule(*logits).argmax() == token
