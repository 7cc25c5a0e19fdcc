"""All Go builds share one cache, which does not grow without end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ci.common import gocache
from ci.common.paths import CHECKOUT


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds 3 MB; returns its largest file."""
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path))
    file = tmp_path / "go-build" / "00" / "object-d"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 3_000_000)
    return file


def test_the_size_of_a_folder_is_measured(cached: Path, tmp_path: Path) -> None:
    assert gocache.size_gb(tmp_path) == pytest.approx(0.003, abs=0.0002)
    assert gocache.size_gb(tmp_path / "absent") == 0


def test_a_small_cache_is_left_alone(cached: Path) -> None:
    assert gocache.trim_go_cache(limit_gb=1) is False
    assert cached.exists()


@pytest.mark.skipif(not shutil.which("go"), reason="needs Go, which empties its cache")
def test_a_large_cache_is_emptied_and_nothing_else(cached: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cluster" / "hyperkube"
    kept.parent.mkdir()
    kept.touch()
    assert gocache.trim_go_cache(limit_gb=0.001) is True
    assert not cached.exists()
    assert kept.exists(), "a compiled program was lost"


def test_builds_are_static_and_take_what_is_locked(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOTOOLCHAIN", raising=False)
    environment = gocache.go_environment()
    assert environment["GOCACHE"] == str(tmp_path / "go-build")
    assert environment["CGO_ENABLED"] == "0"
    assert {"-trimpath", "-mod=readonly"} < set(environment["GOFLAGS"].split())
    assert environment["GOTOOLCHAIN"] == "local", "no other toolchain is fetched unasked"
    monkeypatch.setenv("GOTOOLCHAIN", "go1.27.3")
    assert gocache.go_environment()["GOTOOLCHAIN"] == "go1.27.3"


def test_all_go_builds_have_the_same_settings() -> None:
    """Otherwise they share no compiled packages."""
    environment = gocache.go_environment()
    names = ("GOGC", "GOMEMLIMIT", "CGO_ENABLED", "GOFLAGS")
    dockerfiles = [file for file in (CHECKOUT / "services").rglob("*Dockerfile") if "go build" in file.read_text()]
    assert len(dockerfiles) == 4, dockerfiles
    for file in (CHECKOUT / "Makefile", *dockerfiles):
        [text] = re.findall(r"^(?:GO :=|ENV) (.*GOGC.*(?:\n\t.*)*)", file.read_text(), re.MULTILINE)
        pairs = re.findall(r'(\w+)=("[^"]*"|\S+)', text)
        assert {name: value.strip('"') for name, value in pairs if name in names} == {
            name: environment[name] for name in names
        }, file
