"""Nothing is written over a good file: whole or not at all, also where the disk is full."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from contralign.align.saving import STATE, beside, checkpoint, newest


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def held(folder: Path) -> dict[str, str]:
    """All files below a folder, hidden ones too."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def save_beside(folder: Path, files: dict[str, str], error: BaseException | None = None) -> None:
    with beside(folder) as place:
        written(place, files)
        if error:
            raise error


def save_checkpoint(
    folder: Path, text: str = "torn", error: BaseException | None = None, save: Any = None
) -> None:
    """Write a checkpoint's weights, break off there, or write with a function."""
    with checkpoint(folder):
        written(folder, {"weights": text})
        if save:
            save(folder / "weights")
        if error:
            raise error


@contextmanager
def full_disk(size: int = 100_000) -> Iterator[None]:
    """No file gets longer than that; writing more fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_files_are_moved_in_when_all_are_written(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", {"README.md": "old", "log.txt": "kept"})
    with beside(folder) as place:
        written(place, {"README.md": "new", "sub/deep/a.txt": "a"})
        assert held(folder)["README.md"] == "old"
        assert place.parent == folder
    assert held(folder) == {"README.md": "new", "log.txt": "kept", "sub/deep/a.txt": "a"}
    assert not place.exists()


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    save_beside(tmp_path / "a" / "b", {"model.safetensors": "1"})
    assert held(tmp_path) == {"a/b/model.safetensors": "1"}


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_nothing_is_moved_when_something_fails(tmp_path: Path, error: BaseException) -> None:
    before = {"adapter_model.safetensors": "1", "README.md": "old"}
    folder = written(tmp_path, before)
    with pytest.raises(type(error)):
        save_beside(folder, {"README.md": "new", "model.safetensors": "2"}, error)
    assert held(folder) == before


def test_what_an_earlier_process_of_that_number_left_is_no_part_of_it(tmp_path: Path) -> None:
    with beside(tmp_path) as place:
        pass
    written(place, {"half.bin": "torn"})
    save_beside(tmp_path, {"README.md": "new"})
    assert held(tmp_path) == {"README.md": "new"}


@pytest.mark.parametrize(
    ("before", "new", "gone"),
    [
        (["model.safetensors"], ["adapter_model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin"], ["model.safetensors"], ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            ["model.safetensors"],
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["model-00002-of-00002.safetensors"],
            ["model-00001-of-00001.safetensors", "model.safetensors.index.json"],
            ["model-00002-of-00002.safetensors"],
        ),
        (["model.safetensors", "optimizer.bin", "tokenizer.json"], ["README.md"], []),
        (["optimizer.bin", "model_card.md", "my_model.bin"], ["model.safetensors"], []),
        (["model.safetensors"], ["reference/adapter_model.safetensors"], []),
    ],
)
def test_weights_of_another_kind_go(
    tmp_path: Path, before: list[str], new: list[str], gone: list[str]
) -> None:
    folder = written(tmp_path, dict.fromkeys(before, "old"))
    save_beside(folder, dict.fromkeys(new, "new"))
    kept = dict.fromkeys(set(before) - set(gone), "old")
    assert held(folder) == {**kept, **dict.fromkeys(new, "new")}


def test_an_index_comes_after_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second move fails: what a loader would go by must not be there yet."""
    (tmp_path / "model-2.safetensors").mkdir()
    files = {"model.index.json": "index", "model-2.safetensors": "b"}
    with pytest.raises(OSError, match="directory"):
        save_beside(tmp_path, files)
    assert "model.index.json" not in held(tmp_path)


def saved(run: Path, step: int, state: str = "{}") -> Path:
    return written(run / f"checkpoint-{step}", {STATE: state, "weights": str(step)})


def test_the_newest_checkpoint_by_number_is_the_last_whole_one(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None
    assert newest(tmp_path) is None
    for step in (9, 10, 100, 20):
        saved(tmp_path, step)
    assert newest(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize(
    "broken",
    [
        {"checkpoint-11/weights": "11"},
        {f"checkpoint-11/{STATE}": ""},
        {f"checkpoint-11/{STATE}": '{"global_step": 1'},
        {f"checkpoint-11/{STATE}/a-folder": ""},
        {"checkpoint-11": "a file"},
        {f"checkpoint-last/{STATE}": "{}"},
        {f".checkpoint-11-earlier/{STATE}": "{}"},
        {f"checkpoint-11-old/{STATE}": "{}"},
    ],
)
def test_what_is_no_whole_checkpoint_is_passed_over(tmp_path: Path, broken: dict[str, str]) -> None:
    saved(tmp_path, 9)
    written(tmp_path, broken)
    assert newest(tmp_path) == tmp_path / "checkpoint-9"


def test_a_state_that_is_no_text_is_passed_over(tmp_path: Path) -> None:
    (saved(tmp_path, 11) / STATE).write_bytes(b"\xff\xfe\x00")
    assert newest(tmp_path) is None


def test_a_checkpoint_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    written(saved(tmp_path, 10), {"only-then": "1"})
    save_checkpoint(tmp_path / "checkpoint-10", "again")
    assert held(tmp_path) == {"checkpoint-10/weights": "again"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("shape"), RuntimeError("CUDA")])
def test_a_checkpoint_that_breaks_off_leaves_the_one_before(
    tmp_path: Path, error: BaseException
) -> None:
    saved(tmp_path, 10)
    before = held(tmp_path)
    with pytest.raises(type(error)) as raised:
        save_checkpoint(tmp_path / "checkpoint-10", error=error)
    assert raised.value is error
    assert held(tmp_path) == before


def test_the_first_checkpoint_that_breaks_off_leaves_none(tmp_path: Path) -> None:
    full = OSError("No space left\n on device")
    with pytest.raises(
        OSError, match=r"left on device.*removed\. Free some space, or set save_total"
    ):
        save_checkpoint(tmp_path / "checkpoint-10", error=full)
    assert held(tmp_path) == {}


SAVE: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save([torch.zeros(50_000)] * 3, path),
    "safetensors": lambda path: save_file({"a": torch.zeros(50_000)}, path),
    "text": lambda path: path.write_text("x" * 200_000),
}


@pytest.mark.parametrize("kind", SAVE)
def test_a_full_disk_is_told_with_the_checkpoint_that_is_whole(tmp_path: Path, kind: str) -> None:
    whole = saved(tmp_path, 9)
    before = held(tmp_path)
    folder = tmp_path / "checkpoint-10"
    with pytest.raises(OSError, match="couldn't be written") as full, full_disk():
        save_checkpoint(folder, save=SAVE[kind])
    assert str(full.value).startswith(f"{folder} couldn't be written (")
    assert f"so it was removed. {whole} is whole: free some space" in str(full.value)
    assert "\n" not in str(full.value)
    assert held(tmp_path) == before
