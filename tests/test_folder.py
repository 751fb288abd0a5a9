"""A run's folder: resumed by the same settings, refused to all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from contralign.folder import check_folder, check_free, occupied, write_settings

SETTINGS = {"seed": 0, "model": {"dtype": "float32"}, "limit": None}


def test_the_same_settings_resume(tmp_path: Path) -> None:
    write_settings(tmp_path / "run", SETTINGS)
    check_folder(tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("name", ["new", "."])
def test_a_new_or_empty_folder_is_welcome(tmp_path: Path, name: str) -> None:
    check_folder(tmp_path / name, SETTINGS)


def test_every_differing_setting_is_named(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS)
    other = {"seed": 1, "model": {"dtype": "bfloat16"}, "limit": None}
    both = "settings: model.dtype was 'float32', is 'bfloat16'; seed was 0, is 1. Repeat"
    with pytest.raises(ValueError, match=both):
        check_folder(tmp_path, other)


def test_a_setting_that_one_side_lacks_differs(tmp_path: Path) -> None:
    write_settings(tmp_path, {**SETTINGS, "extra": 1})
    with pytest.raises(ValueError, match="extra was 1, is None"):
        check_folder(tmp_path, SETTINGS)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"no run\.json"):
        check_folder(tmp_path, SETTINGS)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    check_free(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with occupied(tmp_path / "run"):
        for ask in (lambda: check_free(tmp_path / "run"), occupied(tmp_path / "run").__enter__):
            with pytest.raises(ValueError, match="another run is going on"):
                ask()
    check_free(tmp_path / "run")
    with occupied(tmp_path / "run"):
        pass
    # What the lock leaves behind, or a kill before the settings were written, is no other's run.
    (tmp_path / "run" / "run.lock").touch()
    check_folder(tmp_path / "run", SETTINGS)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match="is in use"):
        check_folder(tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("text", ["[1]", "null", "3"])
def test_settings_of_something_else_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json holds no settings of a run"):
        check_folder(tmp_path, SETTINGS)


def test_broken_settings_are_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json can't be read"):
        check_folder(tmp_path, SETTINGS)
