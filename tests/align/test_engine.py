"""Every path gives the model's own log-probs and gradients, or isn't taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from align_models import GROUPED, MODELS, UNPACKABLE, made, ragged
from align_vlms import picture, tiny_llava, tiny_qwen25vl
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn

from contralign.align.batch import Batch
from contralign.align.engine import Engine, TokenLogps
from contralign.align.support import obstacles

PATHS = ("packed", "prefix", "padded")


def naive(model: Any, batch: Batch, images: list[dict[str, Tensor]] | None = None) -> Tensor:
    """Each sequence alone through the model's own forward: `[completions, tokens]`."""
    rows = []
    for index, (prompt, completions) in enumerate(
        zip(batch.prompts, batch.completions, strict=True)
    ):
        for completion in completions:
            ids = torch.tensor([[*prompt, *completion]])
            extra = dict(images[index]) if images else {}
            if "mm_token_type_ids" in extra:
                zeros = torch.zeros(len(completion), dtype=torch.long)
                extra["mm_token_type_ids"] = torch.cat([extra["mm_token_type_ids"], zeros])[None]
            logits = model(input_ids=ids, use_cache=False, **extra).logits
            logps = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
            rows.append(logps[range(len(completion)), completion])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def gradients(model: Any, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(found)


def assert_equals_naive(
    model: Any, batch: Batch, path: str, images: list[dict[str, Tensor]] | None = None
) -> None:
    weights = torch.randn(batch.mask.flatten(0, 1).shape)
    expected = naive(model, batch, images)
    expected_gradients = gradients(model, (weights * expected).sum())
    engine = Engine(model, path)
    with engine.installed():
        found = engine(batch).logps
        found_gradients = gradients(model, (weights.view(found.shape) * found).sum())
    assert found.dtype == torch.float32
    assert (found.flatten(0, 1) - expected).abs().max() < 1e-5
    assert (found_gradients - expected_gradients).norm() < 1e-4 * expected_gradients.norm()


def lora(model: Any, **options: Any) -> Any:
    """An adapter that is not the zero it begins as."""
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", **options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return adapted


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", MODELS)
def test_log_probs_and_gradients_are_the_models_own(name: str, path: str) -> None:
    assert_equals_naive(made(MODELS[name]), ragged(), path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_so_are_an_adapters(name: str, path: str) -> None:
    adapted = lora(made(MODELS[name]), fan_in_fan_out=name == "gpt2")
    assert_equals_naive(adapted, ragged(), path)


def test_weight_decomposed_adapters_too() -> None:
    assert_equals_naive(lora(made(MODELS["llama"]), use_dora=True), ragged(), "packed")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("prompts", "completions"),
    [
        ((4,), ((3, 5),)),
        ((1,), ((1, 1),)),
        ((5, 9), ((2, 4, 1, 7, 3), (1, 1, 6, 2, 2))),
        ((3,), ((8,),)),
    ],
    ids=["a single prompt", "one token each", "five completions", "one completion"],
)
def test_any_number_of_prompts_and_completions(
    prompts: tuple[int, ...], completions: tuple[tuple[int, ...], ...], path: str
) -> None:
    assert_equals_naive(made(MODELS["mistral"]), ragged(prompts, completions), path)


def test_refuses_prompts_alone() -> None:
    with pytest.raises(ValueError, match="completions are what is scored, got prompts alone"):
        Engine(made(MODELS["llama"]))(Batch([[1, 2]], [[]]))


def encoded(name: str) -> tuple[Any, Batch, list[dict[str, Tensor]]]:
    model, processor = {"llava": tiny_llava, "qwen2.5-vl": tiny_qwen25vl}[name]()
    marks = {"llava": "<image>", "qwen2.5-vl": "<|vision_start|><|image_pad|><|vision_end|>"}
    prompts, images = [], []
    for seed, size in enumerate([(56, 40), (28, 28), (84, 56)]):
        text = marks[name] + "what" * (seed + 1)
        made = processor(images=[picture(seed, *size)], text=[text], return_tensors="pt")
        prompts.append(made.pop("input_ids")[0].tolist())
        made.pop("attention_mask")
        images.append({key: x[0] if "token_type" in key else x for key, x in made.items()})
    # Letters come after all special tokens.
    completions = [
        [[200 - i - k - j for j in range(3 * i + k + 1)] for k in (0, 3)] for i in range(3)
    ]
    return model.eval(), Batch(prompts, completions, images), images


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl"])
def test_images_and_their_positions(name: str, path: str) -> None:
    model, batch, images = encoded(name)
    assert_equals_naive(model, batch, path, images)


@pytest.mark.parametrize("name", ["llava", "qwen2.5-vl"])
def test_an_image_is_encoded_once_for_all_completions(name: str) -> None:
    model, batch, images = encoded(name)
    engine = Engine(model, "packed")
    engine(batch)
    seen: list[int] = []
    tower = model.model.vision_tower if name == "llava" else model.model.visual
    tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(
            len(kwargs.get("pixel_values", args[0] if args else ()))
        ),
        with_kwargs=True,
    )
    engine(batch)
    assert seen == [sum(len(image["pixel_values"]) for image in images)]


@pytest.mark.parametrize("name", UNPACKABLE)
def test_a_model_that_a_path_would_score_wrongly_takes_another(name: str) -> None:
    build, path = UNPACKABLE[name]
    model, batch = made(build), ragged()
    engine = Engine(model)
    found = engine(batch).logps
    assert engine.path == path
    assert (found.flatten(0, 1) - naive(model, batch)).abs().max() < 1e-5
    with pytest.raises(ValueError, match="can't take the packed path"):
        Engine(model, "packed")


def test_auto_takes_the_packed_path_where_it_can() -> None:
    engine = Engine(made(MODELS["llama"]))
    assert engine.path == "auto"
    engine(ragged())
    assert engine.path == "packed"


def test_what_only_the_first_batch_shows_is_noticed() -> None:
    # Nothing in its class or config tells that it computes something else in a packed row.
    model = made(MODELS["llama"])
    own = model.base_model.forward

    def forward(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        seen = own(*args, attention_mask=attention_mask, **kwargs)
        if "packed_layout" in kwargs:
            seen.last_hidden_state = seen.last_hidden_state + 0.1
        return seen

    model.base_model.forward = forward
    engine = Engine(model)
    engine(ragged())
    assert engine.path == "prefix"
    with pytest.raises(ValueError, match="nats from the model's own"):
        Engine(model, "packed")(ragged())


@pytest.mark.parametrize("path", ["packed", "padded", "auto"])
def test_checkpointed_layers_see_the_same_model_in_backward(path: str) -> None:
    model, batch = made(MODELS["llama"]), ragged()
    weights = torch.randn(batch.mask.flatten(0, 1).shape)
    expected = gradients(model, (weights * naive(model, batch)).sum())
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    engine = Engine(model, path)
    with engine.installed():
        found = engine(batch).logps
        found_gradients = gradients(model, (weights.view(found.shape) * found).sum())
    assert (found_gradients - expected).norm() < 1e-4 * expected.norm()
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match=r"inside engine\.installed"):
        engine(batch)


def test_the_model_is_left_as_it_was() -> None:
    model = made(MODELS["gpt2"])
    model.train()
    model.transformer.h[0].eval()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    Engine(model)(ragged())
    assert model.training
    assert not model.transformer.h[0].training
    assert "forward" not in vars(model)
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_virtual_tokens_of_prompt_learning() -> None:
    base, batch = made(MODELS["llama"]), ragged()
    alone = naive(base, batch)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = get_peft_model(base, config)
    engine = Engine(model)
    found = engine(batch).logps.flatten(0, 1)
    assert engine.path == "padded"
    rows = []
    for prompt, completions in zip(batch.prompts, batch.completions, strict=True):
        for completion in completions:
            logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits
            logps = logits[0, 3 + len(prompt) - 1 : -1].log_softmax(-1)
            rows.append(logps[range(len(completion)), completion])
    expected = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    assert (found - expected).abs().max() < 1e-5
    assert (found - alone).abs().max() > 1e-3
    # As accelerate does for mixed precision.
    model.forward = torch.autocast("cpu", enabled=False)(model.forward)
    assert (engine(batch).logps.flatten(0, 1) - expected).abs().max() < 1e-5
    with model.disable_adapter():
        assert (engine(batch).logps.flatten(0, 1) - alone).abs().max() < 1e-5


def test_an_adapter_that_is_switched_off_is_the_base() -> None:
    base, batch = made(MODELS["llama"]), ragged()
    expected = naive(base, batch)
    model = lora(base)
    engine = Engine(model)
    assert (engine(batch).logps.flatten(0, 1) - expected).abs().max() > 1e-2
    with model.disable_adapter():
        assert (engine(batch).logps.flatten(0, 1) - expected).abs().max() < 1e-5


class Wrapper(nn.Module):
    """Stands for DDP and FSDP: what doesn't come through it has no hooks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.module(*args, **kwargs)


@pytest.mark.parametrize("path", PATHS)
def test_a_wrappers_forward_is_the_one_that_runs(path: str) -> None:
    model, batch = lora(made(MODELS["llama"])), ragged()
    engine = Engine(model, path)
    expected = engine(batch).logps
    wrapper = Wrapper(model)
    assert torch.equal(engine(batch, through=wrapper).logps, expected)
    assert wrapper.calls == 1


def test_a_temperature_divides_the_logits() -> None:
    model, batch = made(MODELS["gemma2"]), replace(ragged(), sampled=ragged().k)
    found: TokenLogps = Engine(model, temperature=0.5)(batch, entropy=True)
    ids = torch.tensor([[*batch.prompts[0], *batch.completions[0][0]]])
    logits = model(input_ids=ids).logits[0, len(batch.prompts[0]) - 1 : -1] / 0.5
    expected = torch.distributions.Categorical(logits=logits)
    answer = torch.tensor(batch.completions[0][0])
    assert torch.allclose(found.logps[0, 0, :7], expected.log_prob(answer), atol=1e-5)
    assert found.entropy is not None
    assert torch.allclose(found.entropy[0, 0, :7], expected.entropy(), atol=1e-5)
    assert not found.entropy[~batch.mask].any()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_temperature_is_of_samples_alone(path: str, family: str) -> None:
    model, batch = made(MODELS[family]), ragged()
    plain = Engine(model, path)(batch, entropy=True)
    warm = Engine(model, path, temperature=0.5)
    assert torch.equal(warm(batch).logps, plain.logps)
    every = warm(replace(batch, sampled=batch.k), entropy=True)
    mixed = warm(replace(batch, sampled=1), entropy=True)
    assert mixed.entropy is not None
    for found, cool, hot in [
        (mixed.logps, plain.logps, every.logps),
        (mixed.entropy, plain.entropy, every.entropy),
    ]:
        assert cool is not None
        assert hot is not None
        assert torch.allclose(found[:, :-1], cool[:, :-1], atol=1e-5)
        assert torch.allclose(found[:, -1], hot[:, -1], atol=1e-5)
    assert not torch.allclose(plain.logps[:, -1], every.logps[:, -1], atol=0.1)


@pytest.mark.parametrize("path", PATHS)
def test_half_precision_rounds_as_the_padded_rows_do(path: str) -> None:
    model, batch = made(MODELS["llama"]), ragged()
    expected = naive(model, batch)
    found = Engine(model.bfloat16(), path)(batch).logps
    assert found.dtype == torch.float32
    assert (found.flatten(0, 1) - expected).abs().mean() < 0.05


def test_rows_are_independent() -> None:
    engine, batch = Engine(made(MODELS["llama"])), ragged()
    alone = Batch(batch.prompts[1:2], batch.completions[1:2])
    assert torch.allclose(engine(batch).logps[1], engine(alone).logps[0], atol=1e-5)


def test_refuses_what_no_path_can_score() -> None:
    with pytest.raises(ValueError, match="encoder-decoder"):
        Engine(hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=9, d_model=8, num_layers=1)))
    with pytest.raises(ValueError, match="no language-model head"):
        Engine(hf.LlamaModel(hf.LlamaConfig(**GROUPED)))
    with pytest.raises(ValueError, match="got 'fast'"):
        Engine(made(MODELS["llama"]), "fast")


def test_checkpointing_leaves_no_cache_for_the_prefix_path() -> None:
    # Also where the first batch is scored in evaluation: the next one may be trained on.
    model = made(UNPACKABLE["bloom"][0])
    assert obstacles(model, "prefix") == []
    model.activation_checkpointing_enable()
    assert "drops the cache" in obstacles(model.eval(), "prefix")[0]
    engine = Engine(model)
    engine(ragged())
    assert engine.path == "padded"


@pytest.mark.parametrize("path", PATHS)
def test_autocast_is_rounding_and_no_other_model(path: str) -> None:
    model, batch = made(MODELS["llama"]), ragged()
    with torch.autocast("cpu", torch.bfloat16):
        found = Engine(model, path)(batch).logps
    assert (found.flatten(0, 1) - naive(model, batch)).abs().mean() < 0.05
