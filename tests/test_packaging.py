"""The house rules that no linter knows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from contralign import __version__
from contralign.eval.scenes import shipped

ROOT = Path(__file__).parents[1]
PACKAGES = ("align", "decoding", "eval")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def modules() -> Iterator[Path]:
    for folder in (*PACKAGES, "contralign", "benchmarks", "tests"):
        # Path.rglob does not follow the links in contralign/.
        yield from (ROOT / folder).rglob("*.py")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_a_relative_link_to_its_folder(name: str) -> None:
    link = ROOT / "contralign" / name
    assert str(link.readlink()) == f"../{name}"
    assert (ROOT / name / "__init__.py").is_file()


def test_no_module_is_longer_than_300_lines() -> None:
    code = [path for path in modules() if "tests" not in path.parts]
    lengths = {path: len(path.read_text().splitlines()) for path in code}
    assert {str(path): length for path, length in lengths.items() if length > 300} == {}


def test_no_module_is_named_after_nothing() -> None:
    forbidden = {"utils", "util", "common", "helpers", "misc", "types"}
    assert [str(path) for path in modules() if path.stem in forbidden] == []


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_yaml_file_can_be_read() -> None:
    files = [*(ROOT / "configs").rglob("*.yaml")]
    assert files
    for file in files:
        assert isinstance(yaml.safe_load(file.read_text()), dict), file


def test_the_tested_versions_are_within_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    tested = {canonicalize_name(name): version for name, version in pins}
    extras = PROJECT["optional-dependencies"].values()
    for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]:
        requirement = Requirement(text)
        version = tested[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_python_3_11_and_later_are_allowed() -> None:
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_changelog_is_about_this_version() -> None:
    versions = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in versions[:2]


def test_what_is_no_code_is_named_as_package_data() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        path
        for package, patterns in named["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:] or ["contralign"]).glob(pattern)
    }
    data = {
        path
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert data <= found


@pytest.mark.slow
def test_a_wheel_holds_the_model(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    left_out = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "tree", symlinks=True, ignore=left_out)
    command = ["build", "--wheel", "--no-isolation", "--outdir", "dist", "tree"]
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    folder = "contralign/eval/scenes/weights/scenes"
    assert {f"{folder}/{path.name}" for path in shipped().iterdir()} <= names
