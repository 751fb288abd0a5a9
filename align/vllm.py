"""Samples by vLLM, through TRL's engine: in this process, or on a server.

It gets the policy's weights whenever they are new, merged in a scratch copy of one layer after the
other. TRL merges in place, which in half precision moves the base; and the base is the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from trl.generation.vllm_generation import VLLMGeneration

from .batch import Batch
from .sampling import Draw, Sampling
from .scratch import can_merge, plain
from .support import language_model, refuse_more_than_text
from .vllm_options import VLLMOptions


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
    ) -> None:
        refuse_more_than_text(model, "vLLM", "use_vllm")
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
            max_model_length=longest,
            max_num_seqs=requests * options.vllm_tensor_parallel_size,
            enable_sleep_mode=options.vllm_enable_sleep_mode,
            model_impl=options.vllm_model_impl,
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
            if version != self._version:
                self._engine.sync_weights()
                self._version = version
            prompts = [list(prompt) for prompt in batch.prompts for _ in range(sampling.k)]
            _, said, *_ = self._engine.generate(prompts, None, sampling.k)
            return [list(ids) for ids in said]

        return draw


class MergedGeneration(VLLMGeneration):
    """TRL's engine, which reads `merged_weights`."""

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
    inner = language_model(model)
    layers = [layer for layer in inner.modules() if isinstance(layer, BaseTunerLayer)]
    left = {_kind(layer) for layer in layers if not can_merge(layer)}
    ends = (inner.get_input_embeddings(), inner.get_output_embeddings())
    trained = any(isinstance(end, (BaseTunerLayer, AuxiliaryTrainingWrapper)) for end in ends)
    found = None
    if not inner.name_or_path:
        found = "it loads the model by its hub id or folder, and this one was made in memory"
    elif left:
        found = f"its weights are merged, which these layers can't be: {', '.join(sorted(left))}"
    elif trained and inner.config.get_text_config().tie_word_embeddings:
        found = "it ties head and embedding, and an adapter trains one of them"
    if found:
        raise ValueError(f"vLLM can't draw samples of this policy: {found}. Set use_vllm: false.")


def _kind(layer: Any) -> str:
    return f"{type(layer).__module__.split('.')[-2]} {type(layer).__name__}"
