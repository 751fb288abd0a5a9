from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from contralign.decoding import encode
from contralign.eval.scenes.facts import SHORT
from contralign.eval.scenes.lessons import Syllabus
from contralign.eval.scenes.network import Size, network, processor
from contralign.eval.scenes.pictures import Optics
from contralign.eval.scenes.world import World

SCENES = World().scenes("train", 300)


@pytest.fixture(scope="module")
def reader() -> Any:
    return processor()


def test_all_that_is_taught_is_known_and_comes_back_as_it_was(reader: Any) -> None:
    dice, words = random.Random(0), reader.tokenizer
    for scene in SCENES:
        lesson = Syllabus(text=0.3).lesson(scene, dice)
        for text in (lesson.prompt, lesson.answer):
            ids = words(text).input_ids
            assert words.unk_token_id not in ids
            assert words.decode(ids) == text


def test_other_words_are_unknown(reader: Any) -> None:
    ids = reader.tokenizer("Is there a dog?").input_ids
    assert ids.count(reader.tokenizer.unk_token_id) == 1


@pytest.mark.parametrize("parts", [True, False])
def test_a_turn_is_rendered_as_llava_does(reader: Any, parts: bool) -> None:
    text = f"Is there a cup in the image?{SHORT}"
    shown = [{"type": "image"}, {"type": "text", "text": text}] if parts else f"<image> {text}"
    turns = [{"role": "user", "content": shown}, {"role": "assistant", "content": "Yes"}]
    asked = reader.apply_chat_template(turns[:1], add_generation_prompt=True)
    assert asked == f"<s>USER: <image> {text} ASSISTANT:"
    answered = reader.apply_chat_template(turns)
    ids = [reader.tokenizer(each).input_ids for each in (asked, answered)]
    assert ids[1][: len(ids[0])] == ids[0]
    assert reader.tokenizer.decode(ids[1][len(ids[0]) :]) == "Yes</s>"


def test_a_model_reads_what_its_saved_processor_makes(reader: Any, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    prompts = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is"}]}]]
    pictures = [[Optics().picture(SCENES[0])]]
    one, other = (encode(each, prompts, pictures) for each in (reader, loaded))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    model: Any = network(
        Size(width=16, layers=1, tower_width=16, tower_layers=1, heads=2), reader.tokenizer, 0
    )
    assert (one["input_ids"] == model.config.image_token_id).sum() == 9
    assert model(**one).logits.shape == (1, *one["input_ids"].shape[1:], len(reader.tokenizer))


def test_the_seed_is_that_of_the_weights(reader: Any) -> None:
    size = Size(width=16, layers=1, tower_width=16, tower_layers=1, heads=2)
    before = torch.get_rng_state()
    weights = [
        network(size, reader.tokenizer, seed).get_input_embeddings().weight for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())
