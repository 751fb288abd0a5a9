"""Stage 2 with TRL's other generators; vLLM is a stand-in, continuous batching is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import logged
from eval_doubles import tiny_llama, tiny_tokenizer
from mpo_runs import mpo
from vllm_double import LLM, vllm

from contralign.align.adapters import base_tensors
from contralign.align.vllm import merged_weights

assert vllm


@pytest.mark.parametrize("lora", [True, False])
def test_it_draws_from_the_policy_and_leaves_the_base(
    lora: bool, tmp_path: Path, vllm: type[LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    # TRL's own way ends here.
    monkeypatch.setattr("peft.tuners.tuners_utils.BaseTuner.merge_adapter", None)
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    stage2 = {"use_vllm": True, "num_generations": 4, "max_completion_length": 4}
    run: Any = mpo(tmp_path / "out", model=str(tmp_path / "model"), lora=lora, stage2=stage2)
    run.train()
    (engine,) = vllm.made
    assert engine.calls.count("load") == run.online.state.global_step > 0
    assert logged(run.online, "kl")[0] == pytest.approx(0, abs=1e-5)
    if lora:
        first = tiny_llama().state_dict()
        kept = base_tensors(run.online.model)
        assert all(torch.equal(kept[name], value) for name, value in first.items())
    run.online.vllm_generation.sync_weights()
    own = dict(engine.model.named_parameters())
    policy = dict(merged_weights(run.online.model))
    assert policy.keys() == own.keys()
    assert all(torch.equal(own[name], value) for name, value in policy.items())


def test_continuous_batching_leaves_the_base(tmp_path: Path) -> None:
    pages = {"num_blocks": 64, "max_batch_tokens": 256, "page_size": 16}
    stage2 = {
        "use_transformers_continuous_batching": True,
        "transformers_continuous_batching_config": pages,
    }
    run: Any = mpo(tmp_path, stage2=stage2)
    run.train()
    assert logged(run.online, "kl")[0] == 0 != logged(run.online, "kl")[-1]
    first, kept = tiny_llama().state_dict(), base_tensors(run.online.model)
    assert all(torch.equal(kept[name], value) for name, value in first.items())


def test_refuses_that_trl_rounds_the_policy(tmp_path: Path) -> None:
    stage2 = {"use_transformers_continuous_batching": True}
    with pytest.raises(
        ValueError, match=r"stage2: .*rounds the policy's weights to bf16.*got bf16"
    ):
        mpo(tmp_path, stage2=stage2, bf16=True)
