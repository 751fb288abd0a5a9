"""Samples by continuous batching are those of `generate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from align_models import HEADED, MODELS, UNPACKABLE, made, ragged
from align_policies import policy
from align_runs import HYPO, PLAIN, agree, logged, rows, trained, trainer
from align_two import METHODS
from align_vlms import tiny_llava
from peft import PromptTuningConfig, get_peft_model
from transformers import ContinuousBatchingConfig, Gemma3ForCausalLM, Gemma3TextConfig

from contralign.align import continuous as module
from contralign.align.batch import Batch
from contralign.align.continuous import KeyedNoise, check_continuous, continuous
from contralign.align.sampling import Sampling

PROMPTS = ragged()
DRAW = Sampling(k=3, longest=20, temperature=1.0, stops=(2, 10, 11), pad=0, seed=3)


def sharp(name: str) -> Any:
    """A model whose attention is far from uniform, so that what is done to its logits shows."""
    model = made(MODELS[name]).eval()
    with torch.no_grad():
        for place, parameter in model.named_parameters():
            if any(part in place for part in ("q_proj", "k_proj", "c_attn")):
                parameter.mul_(4)
    return model


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gemma2"])
def test_draws_what_generate_draws(name: str) -> None:
    model = sharp(name)
    check_continuous(model)
    own = model.config._attn_implementation
    for sampling in (DRAW, replace(DRAW, temperature=0.6, stops=(2,))):
        expected = sampling(model, PROMPTS, "update 0").completions
        assert sampling(model, PROMPTS, "update 0", continuous).completions == expected
    assert len({len(ids) for group in expected for ids in group}) >= 1
    assert model.config._attn_implementation == own


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_sample_that_is_put_aside_goes_on_with_its_own_noise(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two of nine, samples wait, and some are evicted and prefilled again."""
    model = made(MODELS[name]).eval()
    expected = DRAW(model, PROMPTS, "update 0").completions
    monkeypatch.setattr(
        module,
        "ContinuousBatchingConfig",
        lambda **given: ContinuousBatchingConfig(
            **{**given, "num_blocks": 6, "max_batch_tokens": 16}
        ),
    )
    assert DRAW(model, PROMPTS, "update 0", continuous).completions == expected


def test_an_adapter_is_on_and_modes_come_back() -> None:
    model = policy()
    model.train()
    expected = DRAW(model, PROMPTS, "update 0").completions
    assert DRAW(model, PROMPTS, "update 0", continuous).completions == expected
    assert model.training
    with model.disable_adapter():
        assert DRAW(model, PROMPTS, "update 0", continuous).completions != expected


def test_autocast_over_float32_weights() -> None:
    """Rounding may move a token, after which a sample goes its own way: most are the same."""
    model = made(MODELS["llama"]).eval()
    sampling = replace(DRAW, k=16, longest=4)
    with torch.autocast("cpu", torch.bfloat16):
        rows = [list(sampling(model, PROMPTS, "u", draw).flat) for draw in (None, continuous)]
    same = sum(one == other for one, other in zip(*rows, strict=True))
    assert same > 0.9 * len(rows[0])


def test_leaves_pytorchs_own_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    model = made(MODELS["llama"]).eval()
    torch.manual_seed(5)
    first = torch.rand(1)
    DRAW(model, PROMPTS, "u", continuous)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_one_token_and_one_prompt() -> None:
    model = made(MODELS["llama"]).eval()
    sampling = replace(DRAW, k=1, longest=1)
    one = Batch([[5]], [[]])
    assert sampling(model, one, "u", continuous) == sampling(model, one, "u")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bloom", "attention of its own"), ("lfm2", r"without attention \(conv\)"), ("mamba", "own")],
)
def test_refuses_a_model_that_cannot_read_pages(name: str, reason: str) -> None:
    model = made(UNPACKABLE[name][0])
    with pytest.raises(ValueError, match=f"{type(model).__name__} .*{reason}.*batching: false"):
        check_continuous(model)


def test_refuses_what_pages_leave_out() -> None:
    with pytest.raises(ValueError, match=r"Gemma2ForCausalLM caps attention's logits"):
        check_continuous(made(MODELS["gemma2"]))
    model = made(MODELS["llama"])
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="was loaded with attn_implementation: flex_attention"):
        check_continuous(model)
    told = "PROMPT_TUNING adapter works in PEFT's wrapper"
    prompted = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match=told):
        check_continuous(get_peft_model(made(MODELS["llama"]), prompted))


@pytest.mark.parametrize("longest", [4, 20, 36])
def test_one_sample_has_room_where_layers_share_pages_unevenly(longest: int) -> None:
    kinds = ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(26)]
    uneven = {**HEADED, "num_hidden_layers": 26, "layer_types": kinds, "sliding_window": 8}
    config = Gemma3TextConfig(**uneven)
    model = made(lambda: Gemma3ForCausalLM(config)).eval()
    sampling = replace(DRAW, k=1, longest=longest)
    one = Batch([list(range(5, 17))], [[]])
    assert sampling(model, one, "u", continuous) == sampling(model, one, "u")


def test_a_failed_sample_is_an_error() -> None:
    model = made(MODELS["llama"]).eval()
    with pytest.raises(IndexError):
        continuous(replace(DRAW, seed=0), model, Batch([[10**6]], [[]]), "u")


def test_the_place_in_the_noise() -> None:
    """Request 1 has said two tokens, one of them before it was put aside."""
    noise = KeyedNoise(torch.zeros(2, 5), [3, 4], 1.0)
    state = SimpleNamespace(request_id="1", initial_tokens=[0] * 5, generated_tokens=[0])
    places: Any = noise.prepare_tensor_args([SimpleNamespace(state=state)])
    assert places.tolist() == [5 + 2]


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("method", ["hypo", "copg"])
def test_a_run_is_that_with_generate(tmp_path: Path, method: str, lora: bool) -> None:
    options = {
        **METHODS[method],
        **PLAIN,
        "lora": lora,
        "num_generations": 3,
        "train_dataset": rows(16),
        "eval_dataset": rows(4, seed=1),
        "eval_strategy": "epoch",
        "learning_rate": 1e-3,
    }
    runs = [
        trained(tmp_path / str(how), use_transformers_continuous_batching=how, **options)
        for how in (False, True)
    ]
    agree(*runs)
    assert (logged(runs[0], "kl")[-1] > 0, len(logged(runs[0], "loss"))) == (True, 4)


def test_a_run_refuses_what_cannot_read_pages(tmp_path: Path) -> None:
    model = made(UNPACKABLE["bloom"][0])
    with pytest.raises(ValueError, match="BloomForCausalLM has attention of its own"):
        trainer(
            tmp_path,
            **HYPO,
            model=model,
            lora=False,
            max_completion_length=5,
            use_transformers_continuous_batching=True,
        )


def test_refuses_pictures() -> None:
    with pytest.raises(
        ValueError,
        match=r"batching can't .*: Llava.* reads more than text",
    ):
        check_continuous(tiny_llava()[0])
