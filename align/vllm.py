"""Samples by vLLM, through TRL's engine: in this process, or on a server.

It gets the policy's weights whenever they are new, merged in a scratch copy of one layer after the
other. TRL merges in place, which in half precision moves the base; and the base is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from trl.generation.vllm_generation import VLLMGeneration

from .batch import Batch
from .sampling import Draw, Sampling
from .scratch import can_merge, plain
from .support import cannot_draw, language_model, refuse_generator
from .vllm_options import VLLMOptions

IN_MEMORY = "it loads the model by its hub id or folder, and this one was made in memory"


class VLLM:
    """An engine that follows the policy.

    Args:
        model: The policy, not wrapped, its base loaded from a hub id or folder.
        accelerator: Of the run.
        tokenizer: The model's.
        sampling: How completions are drawn; stays so.
        options: Where the engine runs.
        requests: The most completions at once.
        longest: Tokens of prompt and completion; default: the model's own limit.
        remote: Whether to run the model's own code.

    Raises:
        ConnectionError: No server answers.
        ValueError: vLLM can't have the policy's weights.
    """

    def __init__(
        self,
        model: Any,
        accelerator: Accelerator,
        tokenizer: Any,
        sampling: Sampling,
        options: VLLMOptions,
        *,
        requests: int,
        longest: int | None,
        remote: bool = False,
    ) -> None:
        check_weights(model)
        self._sampling, self._version = sampling, -1
        self._engine: Any = MergedGeneration(
            model,
            accelerator,
            tokenizer,
            mode=options.vllm_mode,
            server_base_url=options.vllm_server_base_url,
            server_host=options.vllm_server_host,
            server_port=options.vllm_server_port,
            server_timeout=options.vllm_server_timeout,
            group_port=options.vllm_group_port,
            tensor_parallel_size=options.vllm_tensor_parallel_size,
            gpu_memory_utilization=options.vllm_gpu_memory_utilization,
            max_model_length=_at_most(longest, language_model(model)),
            max_num_seqs=requests * options.vllm_tensor_parallel_size,
            enable_sleep_mode=options.vllm_enable_sleep_mode,
            model_impl=options.vllm_model_impl,
            trust_remote_code=remote,
            temperature=sampling.temperature,
            max_completion_length=sampling.longest,
            logprobs=None,
            generation_kwargs={"stop_token_ids": list(sampling.stops)},
        )

    def at(self, version: int) -> Draw:
        """Draw from the policy as it is now.

        Args:
            version: Its number: the engine gets weights when it is another than the last time.

        Returns:
            What `Sampling` calls.
        """

        def draw(sampling: Sampling, model: Any, batch: Batch, moment: str) -> list[list[int]]:
            assert sampling == self._sampling
            prompts = [list(prompt) for prompt in batch.prompts for _ in range(sampling.k)]
            # In this process, the trainer's autocast isn't the one it was measured with.
            with torch.autocast(language_model(model).device.type, enabled=False):
                if version != self._version:
                    self._engine.sync_weights()
                    self._version = version
                _, said, *_ = self._engine.generate(prompts, None, sampling.k)
            return [list(ids) for ids in said]

        return draw

    def forget(self) -> None:
        """Know that the policy's weights are others now."""
        self._version = -1


class MergedGeneration(VLLMGeneration):
    """TRL's engine, which reads `merged_weights`.

    TRL writes one tensor after the other into those that vLLM loaded. Here vLLM reloads all, and
    packs them again as its kernels want: on a CPU those that it loaded are gone.
    """

    @classmethod
    def take(cls, engine: VLLMGeneration, model: Any) -> None:
        """Make one of an engine that TRL has started, on the policy, not wrapped."""
        engine.__class__, engine.model = cls, model

    def sync_weights(self) -> None:
        """Give the engine the policy's weights."""
        if self.mode == "server":
            super().sync_weights()
            return
        if self.enable_sleep_mode:
            self.llm.wake_up(tags=["weights"])
            self._llm_weights_sleeping = False
        weights = {"weights_iterator": self._iter_named_params()}
        self.llm.collective_rpc("reload_weights", kwargs=weights)
        self.llm.reset_prefix_cache()

    def _iter_named_params(self) -> Iterator[tuple[str, Tensor]]:
        yield from merged_weights(self.model)


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What the policy computes with, under the names of the model without adapters."""
    inner = language_model(model)
    modules = dict(inner.named_modules())
    adapted = {f"{name}.": x for name, x in modules.items() if isinstance(x, BaseTunerLayer)}
    wrapped = {
        f"{name}.": f"{name}.modules_to_save.{x.active_adapter}."
        for name, x in modules.items()
        if isinstance(x, AuxiliaryTrainingWrapper)
    }
    for place, layer in adapted.items():
        for name, value in plain(layer).named_parameters():
            yield place + name, value.data
    for name, value in inner.named_parameters():
        if name.startswith(tuple(adapted)):
            continue
        place = next((place for place in wrapped if name.startswith(place)), "")
        active = wrapped.get(place, "")
        if name.startswith(active):
            yield place + name.removeprefix(active), value.data


def check_weights(model: nn.Module) -> None:
    """Refuse what vLLM would read wrongly.

    Raises:
        ValueError: With the reason and the way out.
    """
    refuse_generator(model, "vLLM", "use_vllm")
    inner = language_model(model)
    layers = [layer for layer in inner.modules() if isinstance(layer, BaseTunerLayer)]
    left = {_kind(layer) for layer in layers if not can_merge(layer)}
    ends = (inner.get_input_embeddings(), inner.get_output_embeddings())
    trained = any(isinstance(end, (BaseTunerLayer, AuxiliaryTrainingWrapper)) for end in ends)
    found = None
    if not inner.name_or_path:
        found = IN_MEMORY
    elif left:
        found = f"its weights are merged, which these layers can't be: {', '.join(sorted(left))}"
    elif get_model_conversion_mapping(inner, add_legacy=False):
        found = f"in memory {type(inner).__name__} has other weights than in its files"
    elif trained and inner.config.get_text_config().tie_word_embeddings:
        found = "it ties head and embedding, and an adapter trains one of them"
    if found:
        raise cannot_draw("vLLM", found, "use_vllm")


def _at_most(longest: int | None, inner: Any) -> int | None:
    positions = getattr(inner.config, "max_position_embeddings", None)
    return longest if longest is None or positions is None else min(longest, positions)


def _kind(layer: Any) -> str:
    return f"{type(layer).__module__.split('.')[-2]} {type(layer).__name__}"
