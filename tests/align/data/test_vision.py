"""Rows with images: what the processor makes of the prompt, once, and the completions' tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from align_vlms import byte_tokenizer, picture, tiny_llava, tiny_qwen25vl
from tokenizers import processors
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from contralign.align.data import RowError, normalise
from contralign.align.data.encode import Encoded, encode

BUILDERS = {"llava": tiny_llava, "qwen": tiny_qwen25vl}


@pytest.fixture(params=BUILDERS)
def processor(request: pytest.FixtureRequest) -> Any:
    return BUILDERS[request.param]()[1]


def row(prompt: Any = "What is this?", **columns: Any) -> dict[str, Any]:
    turn = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return {
        "prompt": turn,
        "chosen": [{"role": "assistant", "content": "A cat."}],
        "rejected": [{"role": "assistant", "content": "A dog, or is it?"}],
        "images": [picture(0)],
        **columns,
    }


def encoded(given: Mapping[str, Any], processor: Any, max_length: int | None = None) -> Encoded:
    return encode(normalise(given), processor, max_length)


def test_equals_trl(processor: Any) -> None:
    two = [picture(1, 100, 30), picture(2)]
    for given in (row(), row("<image>And <image>?", images=two)):
        found = encoded(given, processor)
        batch = DataCollatorForVisionPreference(processor)([normalise(given)])
        whole = [
            ids[mask.bool()].tolist()
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        assert whole == [found.prompt + ids for ids in found.completions]
        answers = batch["completion_mask"].sum(-1).tolist()
        assert answers == [len(ids) for ids in found.completions]
        # TRL has every image twice.
        for name in ("pixel_values", "image_grid_thw"):
            if name in batch:
                half = batch[name][: len(batch[name]) // 2]
                assert torch.equal(found.images[name], half)


def test_equals_the_prompt_that_generation_reads(processor: Any) -> None:
    for bos in (False, True):
        if bos:
            front = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
            processor.tokenizer.backend_tokenizer.post_processor = front
        turn = {"role": "user", "content": [{"type": "image", "image": picture(0)}]}
        read = processor.apply_chat_template(
            [turn], tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
        )
        found = encoded(row([{"role": "user", "content": [{"type": "image"}]}]), processor)
        assert found.prompt == read["input_ids"][0].tolist()
        assert (found.prompt[0] == 1) == bos
        assert 1 not in found.completions[0]


def test_the_images_go_through_the_processor_once(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    kind = type(processor.image_processor)
    own = kind.__call__

    def counted(self: Any, images: Any, *args: Any, **options: Any) -> Any:
        calls.append(images)
        return own(self, images, *args, **options)

    monkeypatch.setattr(kind, "__call__", counted)
    encoded(row(), processor)
    assert len(calls) == 1


def test_what_the_processor_made_of_two_rows_can_be_joined(processor: Any) -> None:
    first, second = row(), row("<image> or <image>", images=[picture(1, 90, 90), picture(2)])
    found = [encoded(given, processor).images for given in (first, second)]
    prompts = [encoded(given, processor).prompt for given in (first, second)]
    placeholders = sum(prompt.count(processor.image_token_id) for prompt in prompts)
    pixels = torch.cat([images["pixel_values"] for images in found])

    if "image_grid_thw" in found[0]:
        grids = torch.cat([images["image_grid_thw"] for images in found])
        assert grids.shape == (3, 3)
        assert grids.prod(-1).sum() == len(pixels) == 4 * placeholders
    else:
        assert pixels.shape == (3, 3, 28, 28)
        assert placeholders == 3 * 4


def test_token_types_are_those_of_the_prompt() -> None:
    _, processor = tiny_qwen25vl()
    found = encoded(row(), processor)
    expected = [int(token == processor.image_token_id) for token in found.prompt]
    assert found.images["mm_token_type_ids"].tolist() == expected
    assert sum(expected) == 2


def test_token_types_follow_a_prompt_that_loses_its_end_or_a_bos() -> None:
    _, processor = tiny_qwen25vl()
    processor.tokenizer.bos_token = "<s>"
    processor.chat_template = processor.chat_template.replace(
        "<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\nHmm{% endif %}"
    )
    processor.chat_template = "<s><s>" + processor.chat_template
    found = encoded(row(), processor)
    expected = [int(token == processor.image_token_id) for token in found.prompt]

    assert [name for name, _ in found.warnings] == ["boundary", "double-bos"]
    assert found.images["mm_token_type_ids"].tolist() == expected
    assert found.prompt[:2] == processor.tokenizer("<s><|im_start|>").input_ids
    assert processor.decode(found.prompt).endswith("<|im_start|>assistant\n")


def test_text_with_images_keeps_its_own_placeholder(processor: Any) -> None:
    given = {
        "prompt": f"{processor.image_token} What is this?",
        "chosen": " A cat.",
        "rejected": " A dog.",
        "image": picture(0),
    }
    found = encoded(given, processor)
    eos = processor.tokenizer.eos_token
    ends = [processor.decode(ids) for ids in found.completions]
    assert ends == [f" A cat.{eos}", f" A dog.{eos}"]
    assert found.prompt.count(processor.image_token_id) > 1
    assert processor.decode(found.prompt).endswith(" What is this?")


def test_a_row_may_have_no_image(processor: Any) -> None:
    found = encoded(row(images=None), processor)
    assert processor.image_token_id not in found.prompt
    assert "pixel_values" not in found.images


def test_images_are_never_cut(processor: Any) -> None:
    length = len(encoded(row(), processor).prompt)
    with pytest.raises(RowError, match=f"has {length} tokens, max_length is {length}") as caught:
        encoded(row(), processor, length)
    assert caught.value.problem == "prompt-too-long"
    shortest = encoded(row(), processor, length + 3)
    assert shortest.prompt == encoded(row(), processor).prompt
    assert [len(ids) for ids in shortest.completions] == [3, 3]


def no_placeholder(processor: Any) -> dict[str, Any]:
    return {"prompt": "What?", "chosen": " a", "rejected": " b", "images": [picture(0)]}


def in_a_completion(processor: Any) -> dict[str, Any]:
    content = f"See {processor.image_token}"
    return row(chosen=[{"role": "assistant", "content": content}])


def a_thin_line(processor: Any) -> dict[str, Any]:
    return row(images=[picture(0, 600, 2)])


def no_file(processor: Any) -> dict[str, Any]:
    return row(images=["nowhere.png"])


@pytest.mark.parametrize(
    ("given", "problem", "found"),
    [
        (no_placeholder, "image-count", "the prompt has 0 times '<.*>', the row has 1 images"),
        (in_a_completion, "image-count", "chosen has the token that stands for an image|placehol"),
        (no_file, "unreadable-image", "nowhere.png"),
    ],
)
def test_refuses(
    processor: Any, given: Callable[[Any], dict[str, Any]], problem: str, found: str
) -> None:
    with pytest.raises(RowError, match=found) as caught:
        encoded(given(processor), processor)
    assert caught.value.problem == problem


def test_an_image_that_the_processor_refuses_is_quoted() -> None:
    with pytest.raises(RowError, match="ValueError: absolute aspect ratio") as caught:
        encoded(a_thin_line(None), tiny_qwen25vl()[1])
    assert caught.value.problem == "unreadable-image"


def test_a_template_that_moves_the_image_is_refused() -> None:
    _, processor = tiny_llava()
    last = "{% if messages[-1].role == 'user' %}Look: {% endif %}"
    processor.chat_template = last + processor.chat_template
    with pytest.raises(RowError, match="the prompt changes before its image"):
        encoded(row(), processor)


def test_a_row_of_text_needs_a_processor_only_for_images() -> None:
    tokenizer = byte_tokenizer()
    given = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert encoded(given, tokenizer).images == {}
