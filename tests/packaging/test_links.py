"""The import package reaches its four packages through relative links that are committed as links."""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("resilience", "locks", "txn", "sharding")


@pytest.mark.parametrize("package", PACKAGES)
def test_link_resolves_to_its_folder(package: str) -> None:
    link = ROOT / "backstay" / package
    assert link.is_symlink()
    assert str(link.readlink()) == os.path.join("..", package)
    assert link.resolve() == ROOT / package
    assert (ROOT / package).is_dir()
    assert not (ROOT / package).is_symlink()


@pytest.mark.parametrize("package", PACKAGES)
def test_link_is_committed_as_a_link(package: str) -> None:
    entry = subprocess.run(
        ["git", "ls-files", "-s", f"backstay/{package}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert entry.startswith("120000 "), f"backstay/{package} must be committed as a link, git says {entry!r}"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_imported_through_its_link(package: str) -> None:
    module = importlib.import_module(f"backstay.{package}")
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / package / "__init__.py"
