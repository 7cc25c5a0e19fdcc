"""A lock keeps its versions and hashes unless a renewal is requested."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ci.checks import lock
from ci.common.console import Failure

LOCK = f"""{lock.HEADER}httpx==0.28.1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:cc
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
typing-extensions==4.16.0 \\
    --hash=sha256:ee
"""


def test_pins_keep_their_markers() -> None:
    assert lock.pins(LOCK) == [
        "httpx==0.28.1",
        "numpy==2.4.6 ; python_full_version < '3.12'",
        "numpy==2.5.5 ; python_full_version >= '3.12'",
        "typing-extensions==4.16.0",
    ]


def test_a_named_package_is_not_pinned_however_it_is_spelled() -> None:
    assert lock.pins(LOCK, ["NumPy", "typing_extensions"]) == ["httpx==0.28.1"]


def test_a_name_that_the_lock_does_not_have_is_refused() -> None:
    with pytest.raises(Failure, match=r"requirements-dev\.lock has no package numpyy$"):
        lock.pins(LOCK, ["numpyy"])


def test_hashes_of_a_version_stay_and_those_of_a_new_one_are_added() -> None:
    hashes = {"httpx==0.28.1": ["    --hash=sha256:aa \\", "    --hash=sha256:bb"]}
    exported = "httpx==0.28.1 \\\n    --hash=sha256:bb\nidna==3.20 ; extra == 'x' \\\n    --hash=sha256:ff\n"
    assert lock.with_hashes(exported, hashes) == (
        "httpx==0.28.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "idna==3.20 ; extra == 'x' \\\n    --hash=sha256:ff\n"
    )


def test_a_lock_is_written_as_it_was_read() -> None:
    whole = lock.EVERY.read_text()
    assert lock.HEADER + lock.with_hashes(whole, {}) == whole


def test_uv_reads_the_pins_beside_the_settings_of_the_workspace(tmp_path: Path) -> None:
    lock.workspace(tmp_path, ["numpy==2.4.6 ; python_full_version < '3.12'"])
    uv = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["uv"]
    assert uv["constraint-dependencies"] == ["numpy==2.4.6 ; python_full_version < '3.12'"]
    assert uv["package"] is False
    assert all((tmp_path / member / "pyproject.toml").exists() for member in uv["workspace"]["members"])


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs `lock` on a copy of the workspace whose lock is LOCK; gives the constraints of the resolution."""
    for name in ("", *(f"services/{member}" for member in lock.members())):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "pyproject.toml").write_text((lock.CHECKOUT / name / "pyproject.toml").read_text())
    (tmp_path / lock.EVERY.name).write_text(LOCK)
    monkeypatch.setattr(lock, "CHECKOUT", tmp_path)
    monkeypatch.setattr(lock, "EVERY", tmp_path / lock.EVERY.name)

    def with_uv(upgrade: list[str] | None, unsolved: str = "") -> list[str]:
        constraints: list[list[str]] = []

        def resolve(command: list[str], cwd: Path) -> Any:
            if command[:2] == ["uv", "lock"]:
                uv = tomllib.loads((cwd / "pyproject.toml").read_text())["tool"]["uv"]
                constraints.append(uv["constraint-dependencies"])
                if unsolved:
                    raise Failure(unsolved)
            return type("Done", (), {"stdout": "httpx==0.28.1 \\\n    --hash=sha256:new\n"})

        monkeypatch.setattr(lock, "run", resolve)
        lock.lock(upgrade)
        return constraints[0]

    return with_uv


def test_every_file_keeps_the_pins_unless_all_are_renewed(resolved: Callable[..., list[str]], tmp_path: Path) -> None:
    assert resolved(None) == lock.pins(LOCK)
    written = sorted(tmp_path.rglob("*.lock"))
    assert len(written) == len(lock.members()) + len(lock.LEVELS)
    assert all("sha256:aa" in file.read_text() and "sha256:new" not in file.read_text() for file in written)


@pytest.mark.parametrize("upgrade", [[], ["httpx"]])
def test_a_renewed_package_has_the_hashes_of_the_registry(
    resolved: Callable[..., list[str]], tmp_path: Path, upgrade: list[str]
) -> None:
    assert len(resolved(upgrade)) == (3 if upgrade else 0)
    assert all("sha256:new" in file.read_text() for file in tmp_path.rglob("*.lock"))


def test_pins_that_do_not_fit_are_an_error_that_says_what_to_do(resolved: Callable[..., list[str]]) -> None:
    with pytest.raises(Failure, match=r'(?s)you require httpx>=1.*make lock UPGRADE="NAME \.\.\."'):
        resolved(None, unsolved="you require httpx>=1")
