"""The model picks the transformation: what it is asked, and how its reply is read."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from align_vlms import picture
from vision_reference import prompt
from vlms import family

from contralign.decoding import Plain, RITUALPlus, encode, generate
from contralign.decoding.pictured import Prompts
from contralign.decoding.ritual import drawn, transformed
from contralign.decoding.ritual_plus import _asking, answered, choice

ROWS = [("Is it red?", [picture(0)]), ("Why?", [picture(1), picture(2)])]


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ("1", "horizontal flip"),
        ("3. rotation", "rotation"),
        ("I choose number 6, not 2.", "crop"),
        ("The color jitter would help.", "color jitter"),
        ("Gaussian blur, since a crop loses much.", "gaussian blur"),
        ("Transformation 5", "gaussian blur"),
        ("7", None),
        ("12 or 0.5", None),
        ("None of them.", None),
        ("", None),
    ],
)
def test_a_reply_names_a_transformation_or_none(reply: str, name: str | None) -> None:
    assert choice(reply) == name


def test_the_model_is_shown_the_question_and_the_list() -> None:
    reader = family("LLaVA-1.5")[1]
    system = {"role": "system", "content": "Be brief."}
    asking: Any = _asking
    (kept, last) = asking(reader, [system, *prompt(reader, ROWS[1])])
    assert kept == system
    assert [part["type"] for part in last["content"]] == ["image", "image", "text"]
    text = last["content"][-1]["text"]
    assert text.startswith("Question: Why?\n")
    assert "1. horizontal flip\n2. vertical flip\n3. rotation\n" in text
    assert "the most positive transformation that helps answer questions more accurately" in text
    assert asking(reader, "<image>\nWhy?").startswith("<image>\nQuestion: Why?\n")
    (bare,) = asking(reader, [{"role": "user", "content": "Why?"}])
    assert bare["content"].startswith("Question: Why?\n")


@pytest.mark.parametrize("name", ["LLaVA-1.5", "InstructBLIP"])
def test_the_pictures_are_transformed_as_the_model_said(name: str, monkeypatch: Any) -> None:
    """A random model names none; so one of its replies is put in its mouth."""
    model, reader = family(name)
    rows = [(q, images[:1]) for q, images in ROWS]
    messages, images = [prompt(reader, row) for row in rows], [row[1] for row in rows]
    batch_decode = reader.tokenizer.batch_decode
    replies = ["Number 2, please.", "Hm."]
    monkeypatch.setattr(
        reader.tokenizer, "batch_decode", lambda ids, **o: replies[: len(batch_decode(ids, **o))]
    )
    (branch,) = RITUALPlus().branches(reader, messages, images, seeds=[1, 2], model=model)
    names = ["vertical flip", drawn(2)]
    expected = transformed(Prompts(reader, messages, images, [1, 2], None), names)
    assert torch.equal(branch["pixel_values"], expected["pixel_values"])
    inputs = encode(reader, messages, images)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    ids = generate(model, inputs, RITUALPlus(), branch, **options)
    assert not torch.equal(ids, generate(model, inputs, Plain(), **options))


def test_the_reply_is_greedy_whatever_the_generation_config_says(caplog: Any) -> None:
    model, reader = family("LLaVA-1.5")
    messages, images = [prompt(reader, row) for row in ROWS], [row[1] for row in ROWS]
    expected = answered(reader, messages, images, model, 5)
    own = model.generation_config
    before = own.to_dict()
    try:
        own.update(do_sample=True, temperature=5.0, repetition_penalty=9.0)
        assert answered(reader, messages, images, model, 5) == expected
    finally:
        own.update(
            **{key: before[key] for key in ("do_sample", "temperature", "repetition_penalty")}
        )
    with caplog.at_level(logging.INFO, "contralign.decoding.ritual_plus"):
        RITUALPlus(max_new_tokens=5).branches(reader, messages, images, model=model)
    silent = [choice(reply) for reply in expected].count(None)
    assert f"{silent} of 2 prompts named none" in caplog.text


def test_a_model_is_needed() -> None:
    reader = family("LLaVA-1.5")[1]
    with pytest.raises(ValueError, match="got model=None"):
        RITUALPlus().branches(reader, [prompt(reader, ROWS[0])], [ROWS[0][1]])
