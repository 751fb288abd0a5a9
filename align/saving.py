"""Nothing is written over a good file: a folder is whole or not there, and so is each file."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

STATE = "trainer_state.json"
WEIGHTS = re.compile(
    r"(model|pytorch_model|adapter_model|projections).*\.(safetensors|bin|index\.json)"
)
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
WRITE_FAILURES = (
    *("PytorchStreamWriter", "unexpected pos", "file write failed"),
    *("I/O error", "iostream error"),
)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Let files be written into a folder of their own, and move them in when all are whole.

    Weights of another kind or in other pieces, which a loader would prefer, go.

    Args:
        folder: Where they belong.

    Yields:
        Where to write them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".saving-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        _move(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def checkpoint(folder: Path) -> Iterator[None]:
    """Keep an earlier checkpoint of that name until the new one is whole; a broken one goes.

    Raises:
        OSError: It couldn't be written: what, and which checkpoint is the last whole one.
    """
    earlier = folder.with_name(f".{folder.name}-earlier")
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
        os.replace(folder, earlier)
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if earlier.exists():
            os.replace(earlier, folder)
        if not _is_write_failure(error):
            raise
        last = newest(folder.parent)
        raise OSError(
            f"{folder} couldn't be written ({' '.join(str(error).split())}), so it was removed. "
            + (f"{last} is whole: free some space" if last else "Free some space")
            + ", or set save_total_limit, and resume_from_checkpoint: true."
        ) from error
    shutil.rmtree(earlier, ignore_errors=True)


def refuse_used(folder: Path) -> None:
    """Refuse to write a run over another one, or over a model.

    Raises:
        ValueError: With what is there, and the way out.
    """
    last = newest(folder)
    if last is not None:
        raise ValueError(
            f"{folder} holds a run already ({last.name}). Go on with it: resume_from_checkpoint "
            "true; or choose another output_dir."
        )
    weights = [path.name for path in folder.glob("*") if WEIGHTS.fullmatch(path.name)]
    if weights:
        raise ValueError(
            f"{folder} holds a model already ({weights[0]}), which would be written over. Choose "
            "another output_dir."
        )


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint of a run: its state is written last, and can be read."""
    if not folder.is_dir():
        return None
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := CHECKPOINT.fullmatch(path.name)) and _is_whole(path)
    ]
    return max(found)[1] if found else None


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _move(temporary: Path, folder: Path) -> None:
    names = [path.relative_to(temporary) for path in temporary.rglob("*") if path.is_file()]
    # An index last: it's what makes its pieces count.
    for name in sorted(names, key=lambda name: name.suffix == ".json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary / name, folder / name)
    top = {name.name for name in names if len(name.parts) == 1}
    if any(WEIGHTS.fullmatch(name) for name in top):
        for path in folder.iterdir():
            if WEIGHTS.fullmatch(path.name) and path.name not in top:
                path.unlink()


def _is_write_failure(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return True
    broken = isinstance(error, (RuntimeError, SafetensorError))
    return broken and any(sign in str(error) for sign in WRITE_FAILURES)
