"""`make bundle-install`: it unpacks and installs the newest bundle of an environment. A missing one is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ci.common.paths import CHECKOUT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile alone."""
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    return tmp_path


def install(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--silent", "-C", checkout, "bundle-install", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def bundle(checkout: Path, name: str, age: float) -> None:
    """A bundle whose installer says its name and how it was called."""
    folder = checkout / name
    folder.mkdir()
    (folder / "install.sh").write_text(f'#!/bin/sh\necho {name} "$@"\n')
    (folder / "install.sh").chmod(0o755)
    packed = checkout / "build" / f"{name}.tar.gz"
    packed.parent.mkdir(exist_ok=True)
    with tarfile.open(packed, "w:gz") as whole:
        whole.add(folder, name)
    os.utime(packed, (age, age))


def test_without_a_bundle_of_the_environment_it_says_what_writes_one(checkout: Path) -> None:
    bundle(checkout, "house-platform-1-aaa-kind", 1)
    done = install(checkout, "ENV=vm")
    assert done.returncode != 0
    assert done.stderr.startswith("build/ has no bundle of vm: write one with `make bundle ENV=vm`\n")
    assert not (checkout / "build/unpacked").exists()


def test_newest_bundle_is_unpacked_alone_and_its_installer_gets_the_options(checkout: Path) -> None:
    bundle(checkout, "house-platform-1-bbb-vm", 2)
    assert install(checkout, "ENV=vm").stdout == "house-platform-1-bbb-vm\n"
    bundle(checkout, "house-platform-1-aaa-vm", 3)
    bundle(checkout, "house-platform-1-ccc-kind", 4)
    assert install(checkout, "ENV=vm", "ARGS=--argocd --again").stdout == "house-platform-1-aaa-vm --argocd --again\n"
    assert [path.name for path in (checkout / "build/unpacked").iterdir()] == ["house-platform-1-aaa-vm"]
