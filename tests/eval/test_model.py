"""A real tiny model through the real decoding engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoraConfig, get_peft_model

from contralign.decoding import parse
from contralign.eval.ask import Ask
from contralign.eval.model import LanguageModel
from contralign.eval.sampling import gumbel

TEMPLATE = "{% for turn in messages %}{{ turn.role[0] }} {{ turn.content }} {% endfor %}a"
ASKS = [
    Ask("a b c d e", contrast="d e", max_new_tokens=6),
    Ask("f g", contrast="g", max_new_tokens=6),
]


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel(tiny_llama(), tiny_tokenizer())


def texts(model: LanguageModel, name: str, asks: list[Ask] = ASKS) -> list[str]:
    return [answer.text for answer in model.answers(asks, parse(name), range(len(asks)))]


@torch.no_grad()
def naive(model: LanguageModel, ask: Ask, choose: Any) -> list[int]:
    """One row, no padding, no cache: `choose(step, logits...)` gives the next token."""
    prompts = [model.tokenizer(text)["input_ids"] for text in (ask.prompt, ask.contrast)]
    new: list[int] = []
    while len(new) < ask.max_new_tokens and 2 not in new:
        logits = [model.model(torch.tensor([[*ids, *new]])).logits[0, -1] for ids in prompts]
        new.append(int(choose(len(new), *logits)))
    return new


def greedy(step: int, logits: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    return logits.argmax()


def cad(step: int, logits: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    return (2 * logits - contrast).argmax()


@pytest.mark.parametrize(("name", "choose"), [("greedy", greedy), ("cad:alpha=1", cad)])
def test_a_batch_answers_as_a_naive_loop_does(model: LanguageModel, name: str, choose: Any) -> None:
    answers = model.answers(ASKS, parse(name), [0, 1])
    for ask, answer in zip(ASKS, answers, strict=True):
        expected = naive(model, ask, choose)
        assert answer.text == model.tokenizer.decode(expected, skip_special_tokens=True)
        assert answer.tokens == len(expected)


def test_a_sample_is_the_argmax_with_the_item_s_own_noise(model: LanguageModel) -> None:
    def choose(step: int, logits: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
        return (logits + gumbel(5, step, 30)).argmax()

    (alone,) = model.answers(ASKS[1:], parse("sample"), [5])
    (_, together) = model.answers(ASKS, parse("sample"), [4, 5])
    expected = model.tokenizer.decode(naive(model, ASKS[1], choose), skip_special_tokens=True)
    assert alone.text == together.text == expected


@pytest.mark.parametrize("name", ["greedy", "sample", "cad", "plain@beam3"])
def test_a_hub_generation_config_changes_nothing(model: LanguageModel, name: str) -> None:
    expected = texts(model, name)
    other = LanguageModel(tiny_llama(), tiny_tokenizer())
    own = other.model.generation_config
    own.update(do_sample=True, temperature=0.1, top_k=2, repetition_penalty=5.0, num_beams=2)
    own.update(suppress_tokens=list(range(5, 20)), min_new_tokens=5)
    assert texts(other, name) == expected
    assert other.model.generation_config is own


def test_a_hub_config_s_ends_of_sequence_count(model: LanguageModel) -> None:
    (first, *_) = naive(model, ASKS[0], greedy)
    model.model.generation_config.eos_token_id = [2, first]
    assert model.answers(ASKS[:1], parse("greedy"), [0])[0].tokens == 1


def test_an_adapter_answers_and_leaves_its_configs_alone() -> None:
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = LanguageModel(get_peft_model(tiny_llama(), lora), tiny_tokenizer())
    adapted.model.eval()
    adapted.model.generation_config.update(suppress_tokens=list(range(3, 30)))
    bare = LanguageModel(tiny_llama(), tiny_tokenizer())
    assert adapted.fingerprint["weights"] != bare.fingerprint["weights"]
    expected = naive(adapted, ASKS[0], greedy)
    (answer,) = adapted.answers(ASKS[:1], parse("greedy"), [0])
    assert answer.text == adapted.tokenizer.decode(expected, skip_special_tokens=True)


def test_an_ask_longer_than_the_context_is_an_error_of_its_own(model: LanguageModel) -> None:
    long = Ask(" ".join("a" * 27), contrast="a", max_new_tokens=6)
    refused, answered = model.answers([long, ASKS[1]], parse("cad"), [0, 1])
    assert refused.error is not None
    assert "27 tokens and up to 6 more" in refused.error
    assert "holds 32" in refused.error
    assert answered == model.answers(ASKS[1:], parse("cad"), [1])[0]


def test_a_contrast_longer_than_the_context_counts_too(model: LanguageModel) -> None:
    long = Ask("a", contrast=" ".join("a" * 27), max_new_tokens=6)
    assert model.answers([long], parse("cad"), [0])[0].error is not None
    assert model.answers([long], parse("greedy"), [0])[0].error is None


def test_a_full_context_is_no_overflow(model: LanguageModel) -> None:
    full = Ask(" ".join("a" * 26), max_new_tokens=6)
    assert model.answers([full], parse("greedy"), [0])[0].error is None


def test_refuses_a_method_whose_contrast_is_missing(model: LanguageModel) -> None:
    asks = [ASKS[0], Ask("a b", max_new_tokens=6)]
    model.check(asks, parse("greedy"))
    with pytest.raises(ValueError, match="CAD holds each prompt against another one"):
        model.check(asks, parse("cad"))
    with pytest.raises(ValueError, match="CAD holds each prompt against another one"):
        model.answers(asks, parse("cad"), [0, 1])


@pytest.mark.parametrize(
    ("name", "execution", "complaint"),
    [
        ("dola:layers=7", "auto", "early exits of the model's 2 layers"),
        ("cd", "auto", "needs an amateur"),
        ("cad", "psychic", "execution must be one of"),
    ],
)
def test_refuses_what_the_model_cannot_do_before_it_runs(
    model: LanguageModel, name: str, execution: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        model.check(ASKS, parse(name), execution)


def test_refuses_images(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="reads text alone"):
        model.check([Ask("a", images=("cat.png",))], parse("greedy"))


def test_refuses_a_batch_of_several_lengths(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match=r"got \[5, 6\]"):
        model.answers([ASKS[0], Ask("a", max_new_tokens=5)], parse("greedy"), [0, 1])


def test_a_chat_template_is_used_when_there_is_one_and_it_is_wanted() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    chat = LanguageModel(tiny_llama(), tokenizer, system="x y")
    raw = LanguageModel(tiny_llama(), tokenizer, chat="off")
    rendered = [Ask(f"s x y u {ask.prompt} a", max_new_tokens=6) for ask in ASKS]
    assert texts(chat, "greedy") == texts(raw, "greedy", rendered) != texts(raw, "greedy")
    assert (chat.fingerprint["chat"], chat.fingerprint["system"]) == (True, "x y")
    assert raw.fingerprint["chat"] is False
    plain = LanguageModel(tiny_llama(), tiny_tokenizer())
    assert plain.fingerprint["tokenizer"] != raw.fingerprint["tokenizer"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"chat": "on"}, "needs a chat template"),
        ({"chat": "maybe"}, "chat must be one of"),
        ({"system": "be brief"}, "a system prompt needs the chat template"),
    ],
)
def test_refuses_chat_settings_that_the_tokenizer_cannot_follow(
    settings: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        LanguageModel(tiny_llama(), tiny_tokenizer(), **settings)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny_llama().save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_loads_from_a_folder_in_the_dtype_asked_for(saved: Path, model: LanguageModel) -> None:
    loaded = LanguageModel.load(str(saved), device="cpu")
    assert texts(loaded, "cad") == texts(model, "cad")
    assert loaded.fingerprint["name"] == "tiny"
    half = LanguageModel.load(str(saved), dtype="bfloat16", device="cpu")
    assert half.fingerprint["dtype"] == "bfloat16"


def test_loads_an_adapter(saved: Path, tmp_path: Path) -> None:
    lora = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(tiny_llama(), lora).save_pretrained(tmp_path / "adapter")
    adapted = LanguageModel.load(str(saved), adapter=str(tmp_path / "adapter"), device="cpu")
    bare = LanguageModel.load(str(saved), device="cpu")
    assert adapted.fingerprint["weights"] != bare.fingerprint["weights"]
    assert not adapted.model.training


def test_a_tokenizer_without_a_pad_token_pads_with_its_end(saved: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(saved)
    loaded = LanguageModel.load(str(saved), device="cpu")
    assert loaded.tokenizer.pad_token == "</s>"
    assert len(texts(loaded, "cad")) == 2


def test_refuses_an_unknown_dtype_before_it_looks_for_the_model() -> None:
    with pytest.raises(ValueError, match="dtype must be one of"):
        LanguageModel.load("no/such-model", dtype="float8")


def test_a_cutoff_of_one_leaves_sampling_no_choice(model: LanguageModel) -> None:
    assert texts(model, "sample") != texts(model, "greedy")
    assert texts(model, "cutoff-only:cutoff=1@sample") == texts(model, "greedy")
