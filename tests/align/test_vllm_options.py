"""Whether there is a vLLM that TRL can drive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trl import import_utils

from contralign.align import CoPGConfig, HyPOConfig, vllm_options
from contralign.align.vllm_options import check_usable


def test_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs vllm, which isn't installed: pip install"):
        HyPOConfig(str(tmp_path), use_cpu=True, use_vllm=True)


@pytest.mark.parametrize(("version", "supported"), [("0.3.0", False), ("0.25.0", True)])
def test_its_version(monkeypatch: pytest.MonkeyPatch, version: str, supported: bool) -> None:
    found = import_utils._is_package_available

    def available(name: str, **options: Any) -> Any:
        return (True, version) if name == "vllm" else found(name, **options)

    monkeypatch.setattr(import_utils, "_is_package_available", available)
    if supported:
        check_usable("colocate")
        monkeypatch.setattr(vllm_options, "has_cuda", lambda: False)
        with pytest.raises(ValueError, match=r"by NCCL, .* got vllm_mode: server\. Set .*colocate"):
            check_usable("server")
        monkeypatch.setattr(vllm_options, "has_cuda", lambda: True)
        check_usable("server")
        return
    told = rf"isn't one that TRL supports: .* You have version {version} .*leave use_vllm out"
    with pytest.raises(ValueError, match=told):
        check_usable("colocate")


def test_offline_it_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use_vllm is of samples, got True where none are drawn"):
        CoPGConfig(str(tmp_path), use_cpu=True, use_vllm=True)
