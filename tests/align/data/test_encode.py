"""Token ids of text: the same as TRL's, on tokenizers of three families."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import PartialState
from align_tokenizers import LLAMA, THINKING, chatml, shared, words
from align_vlms import tiny_llava, tiny_qwen25vl
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from contralign.align.data import RowError, load, normalise, prepare
from contralign.align.data.encode import Encoded, encode

TEXT = [
    {"prompt": "What color is the sky?", "chosen": " The sky is blue.", "rejected": " Green."},
    {"prompt": "Where is the sun?", "chosen": " In the sky.", "rejected": " In the sea, isn't it?"},
    # The last letter of the prompt and the first of the completion are one token.
    {"prompt": "The sky is gr", "chosen": "een.", "rejected": "ay."},
]
TALK = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"].strip()}],
        "rejected": [{"role": "assistant", "content": row["rejected"].strip()}],
    }
    for row in TEXT
]
LONG = {
    "prompt": [
        {"role": "user", "content": "What color is the sky?"},
        {"role": "assistant", "content": "The sky is blue."},
        {"role": "user", "content": "And the sea?"},
    ],
    "chosen": [{"role": "assistant", "content": "Blue too."}],
    "rejected": [{"role": "assistant", "content": "Green."}],
}


def by_trl(
    rows: Sequence[Mapping[str, Any]], processor: Any, max_length: int | None = None
) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, prompt with chosen and prompt with rejected as TRL's trainer and collator have it."""
    PartialState()
    trainer = SimpleNamespace(_tokenizer=getattr(processor, "tokenizer", processor))
    args = SimpleNamespace(
        dataset_num_proc=None, max_length=max_length, truncation_mode="keep_start"
    )
    dataset = Dataset.from_list(list(rows), on_mixed_types="use_json")
    prepared = DPOTrainer._prepare_dataset(trainer, dataset, processor, args, "train")
    batch = DataCollatorForPreference(pad_token_id=0, max_length=max_length)(list(prepared))
    whole = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    prompts = [
        ids[(mask - answer).bool()].tolist()
        for ids, mask, answer in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        )
    ]
    count = len(prepared)
    return list(zip(prompts[:count], whole[:count], whole[count:], strict=True))


def by_us(
    rows: Sequence[Mapping[str, Any]], processor: Any, max_length: int | None = None
) -> list[tuple[list[int], list[int], list[int]]]:
    dataset = Dataset.from_list(list(rows), on_mixed_types="use_json")
    prepared, _ = prepare(dataset, processor, max_length, "drop")
    return [
        (row["prompt_ids"], *(row["prompt_ids"] + ids for ids in row["completion_ids"]))
        for row in prepared
    ]


@pytest.mark.parametrize("name", ["chatml", "llama"])
@pytest.mark.parametrize("rows", [TEXT, TALK, [LONG]], ids=["text", "messages", "turns"])
def test_equals_trl(name: str, rows: list[dict[str, Any]]) -> None:
    ours = by_us(rows, shared(name))
    assert ours == by_trl(rows, shared(name))
    assert len(ours) == len(rows)


def test_equals_trl_without_a_prompt_column() -> None:
    rows = [
        {side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in TEXT[:2]
    ]
    talk = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in TALK]
    for name in ("chatml", "llama"):
        assert by_us(rows, shared(name)) == by_trl(rows, shared(name))
        assert by_us(talk, shared(name)) == by_trl(talk, shared(name))


@pytest.mark.parametrize("max_length", [12, 20, 28])
def test_truncates_as_trl_does(max_length: int) -> None:
    rows = [*TEXT, {"prompt": "sky " * 30, "chosen": "yes", "rejected": "no"}]
    ours = by_us(rows, shared("chatml"), max_length)
    assert ours == by_trl(rows, shared("chatml"), max_length)
    assert 0 < len(ours) < len(rows)
    assert max(map(len, (ids for row in ours for ids in row))) <= max_length


@pytest.mark.parametrize("build", [tiny_llava, tiny_qwen25vl])
def test_equals_trl_on_text_for_a_vision_model(build: Any) -> None:
    _, processor = build()
    assert by_us(TALK, processor) == by_trl(TALK, processor)
    assert by_us(TEXT, processor) == by_trl(TEXT, processor)


def test_equals_trl_with_tools_and_options_of_the_template() -> None:
    tokenizer = chatml()
    tokenizer.chat_template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{{ mood }}" + tokenizer.chat_template
    )
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    row = {**TALK[0], "tools": tools, "chat_template_kwargs": {"mood": "The sky"}}
    written = {**row, "tools": json.dumps(tools)}

    ours = by_us([row], tokenizer)
    assert ours == by_trl([row], tokenizer) == by_us([written], tokenizer)
    assert tokenizer.decode(ours[0][0]).startswith('[{"type": "function"')
    assert "}]The sky<|im_start|>user" in tokenizer.decode(ours[0][0])


@pytest.mark.data
@pytest.mark.skipif("CONTRALIGN_DATA" not in os.environ, reason="set CONTRALIGN_DATA to its folder")
def test_equals_trl_on_real_pairs() -> None:
    file = Path(os.environ["CONTRALIGN_DATA"], "preferences", "dpo_en_demo.json")
    rows = [normalise(row) for row in load(str(file))]
    tokenizer = chatml((row["chosen"][0]["content"] for row in rows[:100]), size=1000)

    whole, cut = (by_us(rows, tokenizer, max_length) for max_length in (None, 640))
    assert whole == by_trl(rows, tokenizer)
    assert cut == by_trl(rows, tokenizer, 640)
    assert len(whole) == 300 > len(cut) > 0


def encoded(row: Mapping[str, Any], tokenizer: Any, max_length: int | None = None) -> Encoded:
    return encode(normalise(row), tokenizer, max_length)


def shown(found: Encoded, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(ids) for ids in (found.prompt, *found.completions)]


def test_text_ends_with_eos_once() -> None:
    tokenizer = words()
    found = encoded({"prompt": "a b", "chosen": " c", "rejected": " d <eos>"}, tokenizer)
    assert shown(found, tokenizer) == ["a b", "c <eos>", "d <eos>"]
    assert found.warnings == []


def test_completions_start_where_the_tokens_part() -> None:
    tokenizer = shared("chatml")
    found = encoded(TEXT[2], tokenizer)
    end = "<|im_end|>"
    assert shown(found, tokenizer) == ["The sky is", f" green.{end}", f" gray.{end}"]
    assert found.warnings == [("boundary", "the prompt's end ' gr' becomes other tokens")]


def test_a_template_that_starts_another_answer_is_named() -> None:
    tokenizer = chatml()
    tokenizer.chat_template = THINKING
    ((name, found),) = encoded(TALK[0], tokenizer).warnings
    assert name == "boundary"
    assert "<think>" in found


def test_bos_stands_once() -> None:
    tokenizer = shared("llama")
    twice = encoded({**TEXT[0], "prompt": "<s> What color is the sky?"}, tokenizer)
    once = encoded(TEXT[0], tokenizer)

    assert (once.prompt[0], once.warnings) == (tokenizer.bos_token_id, [])
    assert twice.warnings == [("double-bos", "the prompt begins with '<s><s>'")]
    assert twice.prompt.count(tokenizer.bos_token_id) == 1
    assert encoded(TALK[0], tokenizer).prompt.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("end", "warned"),
    [("", True), ("<|im_end|>", False), ("<|im_end|>\n \n", False), ("<|endoftext|>", True)],
)
def test_a_completion_without_eos_is_named(end: str, warned: bool) -> None:
    tokenizer = chatml()
    template = "{% for turn in messages %}{{ turn.role + ': ' + turn.content }}{% endfor %}"
    tokenizer.chat_template = f"{template}{{% if not add_generation_prompt %}}{end}{{% endif %}}"
    found = encoded(TALK[0], tokenizer)
    assert [name for name, _ in found.warnings if name != "boundary"] == ["missing-eos"] * warned


def test_another_special_token_ends_a_turn_too() -> None:
    tokenizer = chatml()
    tokenizer.eos_token = "<|im_start|>"
    assert encoded(TALK[0], tokenizer).warnings == []


def test_cut_completions_are_counted_by_pair() -> None:
    tokenizer = words()
    row = {"prompt": "a b", "chosen": " c d e f", "rejected": " d"}
    found = encoded(row, tokenizer, 5)
    assert shown(found, tokenizer) == ["a b", "c d e", "d <eos>"]
    assert found.warnings == [("truncated", "chosen keeps 3 of its 5 tokens")]
    assert encoded(row, tokenizer, 7).warnings == []


@pytest.mark.parametrize(
    ("row", "max_length", "problem", "found"),
    [
        ({"prompt": "a b c", "chosen": " d", "rejected": " e"}, 3, "prompt-too-long", "has 3 toke"),
        ({"prompt": "a", "chosen": " b c", "rejected": " b d"}, 2, "identical", "their first 1"),
        ({"prompt": "a", "chosen": " b", "rejected": " b <eos>"}, None, "identical", "all their"),
        ({"prompt": "ab", "chosen": "c", "rejected": "d"}, None, "missing-prompt", "none of its"),
    ],
)
def test_refuses(row: dict[str, str], max_length: int | None, problem: str, found: str) -> None:
    tokenizer = words() if row["prompt"] != "ab" else words_joined()
    with pytest.raises(RowError, match=found) as caught:
        encoded(row, tokenizer, max_length)
    assert caught.value.problem == problem


def words_joined() -> Any:
    """Where `ab` and `abc` are different words."""
    tokenizer = words()
    tokenizer.add_tokens(["ab", "abc", "abd"])
    return tokenizer


def test_a_template_that_refuses_is_quoted() -> None:
    turns = [{"role": "user", "content": "a"}] * 2
    with pytest.raises(RowError, match="TemplateError: roles must alternate") as caught:
        encoded({**TALK[0], "prompt": turns}, shared("llama"))
    assert caught.value.problem == "chat-template"


def test_a_template_that_leaves_the_answer_out_is_named() -> None:
    tokenizer = words(chat_template="user assistant")
    with pytest.raises(RowError, match="chosen has no tokens") as caught:
        encoded(TALK[0], tokenizer)
    assert caught.value.problem == "empty-completion"


def test_refuses_a_tokenizer_without_what_the_rows_need() -> None:
    with pytest.raises(ValueError, match="messages need a chat template"):
        encoded(TALK[0], words())
    with pytest.raises(ValueError, match="has no eos_token"):
        encoded(TEXT[0], words(eos_token=None))
    with pytest.raises(
        ValueError, match="rows with images need a model that reads images, and its"
    ):
        encoded({**TEXT[0], "images": []}, shared("chatml"))
    assert encoded(TALK[0], words(chat_template=LLAMA, bos_token="<eos>")).prompt


def test_ids_are_plain_numbers() -> None:
    _, processor = tiny_qwen25vl()
    found = encoded(TALK[0], processor)
    assert {type(i) for ids in (found.prompt, *found.completions) for i in ids} == {int}
    assert not found.images
    assert torch.tensor(found.prompt).ndim == 1


def test_a_sample_needs_room_behind_the_prompt() -> None:
    row = {"prompt": "a b c", "chosen": " d e f", "rejected": " e"}
    tokenizer = words()
    assert shown(encode(row, tokenizer, 6, room=3), tokenizer)[0] == "a b c"
    with pytest.raises(RowError, match=r"has 3 tokens, max_length is 6, a sample's 4"):
        encode(row, tokenizer, 6, room=4)
