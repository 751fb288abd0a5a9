"""What is called of vLLM, on a transformers model: vLLM itself is no dependency."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.generation import vllm_generation

from contralign.align import vllm_options


class SamplingParams(SimpleNamespace):
    """Values by name."""


class LLM:
    """An engine with weights of its own, which starts with those of a folder.

    Attributes:
        model: Computes.
        given: How it was made.
        calls: What it was called for, in turn: "load", "sleep", "wake" or the drawn rows.
    """

    made: ClassVar[list[LLM]] = []

    def __init__(self, *, model: str, **given: Any) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(model).eval()
        self.given, self.calls = given, []
        self.made.append(self)

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        own = dict(self.model.named_parameters())
        for name, value in kwargs["weights_iterator"]:
            own[name].data.copy_(value)

    def reset_prefix_cache(self) -> None:
        self.calls.append("load")

    def sleep(self, level: int) -> None:
        for parameter in self.model.parameters():
            parameter.data.zero_()
        self.calls.append("sleep")

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append("wake")

    @torch.no_grad()
    def generate(self, prompts: list[dict[str, Any]], sampling_params: Any, **_: Any) -> list[Any]:
        assert sampling_params.n == 1
        return [self._output(one["prompt_token_ids"], sampling_params) for one in prompts]

    def _output(self, prompt: list[int], params: Any) -> Any:
        said: list[int] = []
        stops = {*getattr(params, "stop_token_ids", ())}
        while len(said) < params.max_tokens and not {*said} & stops:
            logits = self.model(torch.tensor([[*prompt, *said]])).logits[0, -1]
            shares = (logits / params.temperature).softmax(-1)
            said.append(int(torch.multinomial(shares, 1)))
        self.calls.append(said)
        completion = SimpleNamespace(token_ids=tuple(said), logprobs=None)
        return SimpleNamespace(prompt_token_ids=prompt, outputs=[completion])


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Let TRL find this one."""
    monkeypatch.setattr(LLM, "made", [])
    monkeypatch.setattr(vllm_options, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "LLM", LLM, raising=False)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SamplingParams, raising=False)
    # TRL sets these for vLLM.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    return LLM
