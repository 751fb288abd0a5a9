"""What changes a digest, and what must not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy
from peft import LoraConfig, get_peft_model

from contralign.align.batch import Batch
from contralign.align.reference_keys import completion_keys, weights_digest

BASE = weights_digest(made(MODELS["llama"]))


def changed(change: Any) -> Any:
    model = copy.deepcopy(made(MODELS["llama"]))
    change(model)
    return model


def flip_last_bit(model: Any) -> None:
    bits = model.model.layers[1].mlp.down_proj.weight.data.view(torch.int32)
    bits[-1, -1] ^= 1


def read_otherwise(model: Any) -> None:
    model.config.rms_norm_eps = 1e-3


def dress_up(model: Any) -> None:
    """What trainers and loading from another place change."""
    model.config.pad_token_id = 5
    model.config.use_cache = False
    model.config._name_or_path = "elsewhere"
    model.config.attention_dropout = 0.1
    model.config._attn_implementation = "eager"
    model.requires_grad_(False).train()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"r": 2, "target_modules": ["embed_tokens", "q_proj", "lm_head"]},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_one_base_has_one_digest_under_any_adapter(options: dict[str, Any]) -> None:
    model = policy(**options)
    assert weights_digest(model) == BASE
    moved(model)
    assert weights_digest(model) == BASE


@pytest.mark.parametrize("change", [flip_last_bit, read_otherwise, torch.nn.Module.bfloat16])
def test_another_base_has_another_digest(change: Any) -> None:
    assert weights_digest(changed(change)) != BASE


def test_what_no_log_prob_depends_on_does_not_count() -> None:
    assert weights_digest(changed(dress_up)) == BASE


def test_half_precision_has_a_digest_too() -> None:
    model = changed(torch.nn.Module.bfloat16)
    wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(target_modules=["q_proj"]))
    assert weights_digest(model) == weights_digest(wrapped)


def test_refuses_weights_that_are_not_here() -> None:
    split = made(MODELS["llama"])
    split.lm_head.weight.ds_id = 0  # as DeepSpeed ZeRO-3 marks them
    offloaded = made(MODELS["llama"]).to("meta")
    for model in (split, offloaded):
        with pytest.raises(ValueError, match="some are split over processes or offloaded"):
            weights_digest(model)


def test_a_completion_is_found_wherever_it_stands() -> None:
    batch = ragged()
    keys = completion_keys(batch)
    assert len(set(keys)) == 6
    alone = Batch(
        batch.prompts[1:2], [[batch.completions[1][1]]], columns={"weight": torch.ones(1)}
    )
    assert completion_keys(alone) == keys[3:4]


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [([1, 2, 4], [4, 5]), ([1, 2, 3], [4, 6]), ([1, 2], [3, 4, 5]), ([1, 2, 3], [4, 5, 0])],
)
def test_every_token_counts(prompt: list[int], completion: list[int]) -> None:
    assert completion_keys(Batch([prompt], [[completion]])) != completion_keys(
        Batch([[1, 2, 3]], [[[4, 5]]])
    )


def test_every_image_tensor_counts() -> None:
    def keyed(**image: torch.Tensor) -> list[bytes]:
        return completion_keys(Batch([[1]], [[[2]]], [image]))

    pixels, grid = torch.rand(1, 3, 4, 4), torch.tensor([[1, 2, 2]])
    first = keyed(pixel_values=pixels, image_grid_thw=grid)
    assert keyed(image_grid_thw=grid.clone(), pixel_values=pixels.clone()) == first
    other = pixels.clone()
    other[0, 0, 0, 0] += 1e-6
    assert keyed(pixel_values=other, image_grid_thw=grid) != first
    assert keyed(pixel_values=pixels, image_grid_thw=grid + 1) != first
    assert keyed(pixel_values=pixels) != first
    assert keyed(pixel_values=pixels.bfloat16(), image_grid_thw=grid) != first
    assert completion_keys(Batch([[1]], [[[2]]])) != first
