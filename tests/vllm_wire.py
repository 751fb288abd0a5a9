"""Weights travel to a vLLM server by TCP where there is no NCCL: a plugin of vLLM, for tests.

Only the broadcast and CUDA's streams are replaced; the server, its endpoints, the packing and the
reloading are vLLM's, and the client is TRL's.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

PLUGIN = {
    "METADATA": "Metadata-Version: 2.1\nName: wire\nVersion: 0\n",
    "entry_points.txt": "[vllm.general_plugins]\nwire = vllm_wire:patch\n",
}


def install(folder: Path) -> None:
    """Let vLLM find the plugin in every process that has the folder in its path."""
    (folder / "wire-0.dist-info").mkdir()
    for name, text in PLUGIN.items():
        (folder / "wire-0.dist-info" / name).write_text(text)


class Wire:
    """Broadcasts over a store."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def broadcast(self, tensor: Tensor, src: int) -> None:
        sent = self.group.broadcast_obj(tensor.cpu() if self.group.rank == src else None, src=src)
        if self.group.rank != src:
            tensor.copy_(sent)


def patch() -> None:
    """Put the wire in place of NCCL, and no streams in place of CUDA's."""
    from vllm.distributed.utils import StatelessProcessGroup
    from vllm.distributed.weight_transfer import nccl_common, packed_tensor

    def connect(host: str, port: int, rank: int, world_size: int, device: Any) -> Wire:
        joined = StatelessProcessGroup.create(host, port, rank, world_size)
        return Wire(joined)

    stream = SimpleNamespace(synchronize=lambda: None)
    nccl_common.stateless_init_process_group = connect
    packed_tensor._get_streams = lambda device, count: [stream] * count
    torch.accelerator.current_device_index = lambda: 0
    torch.cuda.stream = lambda stream: contextlib.nullcontext()
