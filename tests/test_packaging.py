"""The house rules that no linter knows."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from contralign import __version__

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
