"""A real vLLM draws from the policy, in this process or on a server; where vLLM is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import vllm_run
import vllm_wire
from processes import environment, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm isn't installed"),
]


def of_vllm(folder: Path) -> dict[str, str]:
    """The environment of a process with vLLM, which finds plugins in the folder."""
    path = os.pathsep.join((str(folder), *sys.path))
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_SERVER_DEV_MODE": "1"}
    return environment(folder, PYTHONPATH=path, **own)


def off(found: dict[str, list[float]], name: str) -> float:
    """By how many standard errors what was drawn isn't what such a policy draws."""
    values = found[name]
    return abs(mean(values)) / (stdev(values) / len(values) ** 0.5)


def check_drawn(folder: Path, options: dict[str, Any]) -> None:
    """It has the weights of now, within bfloat16, and draws at the temperature asked for."""
    command = [sys.executable, vllm_run.__file__, str(folder), json.dumps(options)]
    subprocess.run(command, env=of_vllm(folder), check=True, timeout=600)
    found = json.loads((folder / "drawn.json").read_text())
    away = {
        name: mean(abs(x - y) for x, y in zip(found["vllm"], found[name], strict=True))
        for name in ("policy", "base")
    }
    assert away["policy"] < 0.03
    assert away["base"] > 0.2
    assert off(found, "drawn") < 4
    assert min(off(found, "old"), off(found, "hot")) > 6


@pytest.mark.parametrize(
    "options",
    [{}, {"adapter": {"use_dora": True}}, {"peft_config": None, "refresh_every": 2}],
    ids=["lora", "dora", "full"],
)
def test_in_this_process(tmp_path: Path, options: dict[str, Any]) -> None:
    check_drawn(tmp_path, options)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The port of a server, with NCCL replaced."""
    vllm_wire.install(tmp_path)
    port = free_port()
    given = {
        "model": vllm_run.save_model(tmp_path / "model"),
        "host": "127.0.0.1",
        "port": port,
        "weight-transfer-config": json.dumps({"backend": "nccl"}),
        "max-model-len": "64",
    }
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--enforce-eager",
        *words,
    ]
    with subprocess.Popen(command, env=of_vllm(tmp_path)) as running:
        yield port
        running.terminate()


def test_on_a_server(tmp_path: Path, server: str) -> None:
    place = {"vllm_server_host": "127.0.0.1", "vllm_server_port": int(server)}
    check_drawn(tmp_path, {"vllm_mode": "server", **place, "vllm_group_port": int(free_port())})
