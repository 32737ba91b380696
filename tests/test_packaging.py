"""What is installed, from where, and what CI runs."""

from __future__ import annotations

import importlib
import os
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("catalens", "encoders", "indexer", "retriever")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_the_one_of_this_checkout(name: str) -> None:
    # The names are generic: another distribution may bring an `encoders` of its own.
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / name / "__init__.py"


def test_packages_are_listed_one_by_one(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    tops = {name.partition(".")[0] for name in listed}
    assert tops == set(PACKAGES)  # neither tests nor benchmarks
    for name in PACKAGES:
        on_disk = {
            ".".join(path.parent.relative_to(ROOT).parts)
            for path in (ROOT / name).rglob("__init__.py")
        }
        assert on_disk <= set(listed), "a package on disk is not installed"


def test_command_is_installed_under_its_name(project: dict[str, Any]) -> None:
    assert set(project["project"]["scripts"]) == {"catalens"}


def test_lock_is_exact_and_names_no_place() -> None:
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 50
    for pin in pins:
        name, exact, version = pin.partition("==")
        assert exact and name and version, f"not an exact version: {pin}"
        assert "@" not in pin and "/" not in pin, f"a place of one machine: {pin}"
    assert not [pin for pin in pins if pin.startswith("catalens")]


def test_lock_holds_what_the_project_asks_for(project: dict[str, Any]) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[canonicalize_name(name)] = version
    extras = project["project"]["optional-dependencies"]
    installed = (extras[name] for name in ("cpu", "clip", "words", "multilingual", "test", "dev"))
    asked = [*project["project"]["dependencies"], *chain.from_iterable(installed)]
    for requirement in map(Requirement, asked):
        locked = pins.get(canonicalize_name(requirement.name))
        assert locked is not None, f"run `make lock`: {requirement.name} is not in the lock"
        assert requirement.specifier.contains(locked, prereleases=True), requirement


def test_ci_runs_the_readmes_test_command_and_no_more() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text("utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert "set -euo pipefail" in lines
    assert "make test" in (ROOT / "README.md").read_text("utf-8")
