"""A lock keeps its versions and hashes unless a renewal is requested."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ci.checks import lock
from ci.common.agreements import FIXED
from ci.common.console import Failure
from ci.common.paths import CHECKOUT

FILES = [file for one in lock.resolutions() for file in one.exports]
REQUIRED = sorted({name for agreement in FIXED for name in agreement.packages})  # services must have these
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


def test_hashes_of_a_version_stay_and_those_of_a_new_one_are_added() -> None:
    hashes = {"httpx==0.28.1": ["    --hash=sha256:aa \\", "    --hash=sha256:bb"]}
    exported = "httpx==0.28.1 \\\n    --hash=sha256:bb\nidna==3.20 ; extra == 'x' \\\n    --hash=sha256:ff\n"
    assert lock.with_hashes(exported, hashes) == (
        "httpx==0.28.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "idna==3.20 ; extra == 'x' \\\n    --hash=sha256:ff\n"
    )


@pytest.mark.parametrize("file", FILES)
def test_a_lock_is_written_as_it_was_read(file: str) -> None:
    whole = (CHECKOUT / file).read_text()
    assert lock.HEADER + lock.with_hashes(whole, {}) == whole


def test_every_service_is_resolved_alone_with_what_it_imports_of_ours() -> None:
    alone = {one.projects for one in lock.resolutions() if not one.follows}
    ours = {"pipeline": ("services/core",), "predictor": ("services/core",)}
    assert alone == {(f"services/{name}", *ours.get(name, ())) for name in lock.services()}


def test_only_services_of_one_environment_look_at_its_versions() -> None:
    keeps = {one.projects[0]: one.keeps for one in lock.resolutions() if not one.follows}
    looking = {project for project, files in keeps.items() if files[1:] == (lock.EVERY,)}
    assert looking == {f"services/{name}" for name in lock.members()}
    assert {"services/airflow", "services/mlflow"} == keeps.keys() - looking


def test_environments_take_the_new_versions_of_the_services_that_they_test() -> None:
    followed = {one.projects[0]: set(one.follows) for one in lock.resolutions() if one.follows}
    assert followed == {
        "": {lock.lock_of(name) for name in lock.members()},
        lock.DAGS: {lock.lock_of("airflow")},
    }


@pytest.mark.parametrize("projects", [("services/ui",), ("", "services/ui")])
def test_uv_reads_the_pins_and_the_projects_of_a_resolution(tmp_path: Path, projects: tuple[str, ...]) -> None:
    lock.workspace(tmp_path, projects, ["numpy==2.4.6 ; python_full_version < '3.12'"])
    uv = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["uv"]
    assert uv["constraint-dependencies"] == ["numpy==2.4.6 ; python_full_version < '3.12'"]
    assert "services/ui" in uv["workspace"]["members"]
    assert {file.parent for file in tmp_path.rglob("pyproject.toml")} == {tmp_path, tmp_path / "services/ui"}


class Resolver:
    """A copy of the projects whose locks are all LOCK, with a function in the place of uv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.constraints: dict[str, list[str]] = {}  # of each resolution, by its first project
        self.upgraded = "httpx==0.28.1"  # its answer
        self.differs: dict[str, str] = {}  # another answer, by the first project
        self.unsolved = ""

    def __call__(self, _command: list[str], cwd: Path) -> Any:
        settings = tomllib.loads((cwd / "pyproject.toml").read_text())
        first = "" if "project" in settings else settings["tool"]["uv"]["workspace"]["members"][0]
        self.constraints[first] = settings["tool"]["uv"]["constraint-dependencies"]
        if self.unsolved:
            raise Failure(self.unsolved)
        answer = self.differs.get(first, self.upgraded)
        shared = "".join(f"{name}==1 \\\n    --hash=sha256:00\n" for name in REQUIRED)
        return type("Done", (), {"stdout": f"{answer} \\\n    --hash=sha256:new\n{shared}"})

    def written(self) -> dict[str, str]:
        return {str(file.relative_to(self.folder)): file.read_text() for file in self.folder.rglob("*.lock")}


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    for file in CHECKOUT.glob("services/*/pyproject.toml"):
        (tmp_path / file.relative_to(CHECKOUT)).parent.mkdir(parents=True)
    (tmp_path / lock.DAGS).mkdir(parents=True)
    for project in {project for one in lock.resolutions() for project in one.projects}:
        shutil.copyfile(CHECKOUT / project / "pyproject.toml", tmp_path / project / "pyproject.toml")
    for file in FILES:
        (tmp_path / file).write_text(LOCK)
    replacement = Resolver(tmp_path)
    monkeypatch.setattr(lock, "CHECKOUT", tmp_path)
    monkeypatch.setattr(lock, "run", replacement)
    return replacement


def test_every_file_keeps_the_pins_unless_all_are_renewed(resolver: Resolver) -> None:
    lock.lock()
    alone = {project: pins for project, pins in resolver.constraints.items() if project not in ("", lock.DAGS)}
    assert set(alone) == {f"services/{name}" for name in lock.services()}
    assert all(pins == lock.pins(LOCK) for pins in alone.values())
    assert set(resolver.written()) == set(FILES)
    assert all("sha256:aa" in text and "sha256:new" not in text for text in resolver.written().values())


@pytest.mark.parametrize("upgrade", [[], ["httpx"]])
def test_a_renewed_package_has_the_hashes_of_the_registry(resolver: Resolver, upgrade: list[str]) -> None:
    lock.lock(upgrade)
    assert len(resolver.constraints["services/ui"]) == (3 if upgrade else 0)
    assert all("sha256:new" in text for text in resolver.written().values())


def test_an_environment_takes_a_version_that_a_service_has_now(resolver: Resolver) -> None:
    resolver.upgraded, resolver.differs = "httpx==0.29", {"services/airflow": "httpx==0.28.1"}
    lock.lock(["httpx"])
    assert {"httpx==0.29"} == {pin for pin in resolver.constraints[""] if pin.startswith("httpx")}
    assert {"httpx==0.28.1"} == {pin for pin in resolver.constraints[lock.DAGS] if pin.startswith("httpx")}
    assert "typing-extensions==4.16.0" in resolver.constraints[""], "the other pins stay"


def test_services_of_one_environment_that_disagree_are_an_error_and_nothing_is_written(resolver: Resolver) -> None:
    resolver.differs = {"services/ui": "httpx==0.29"}
    with pytest.raises(
        Failure, match=r"(?s)httpx is 0\.28\.1 in pipeline and 0\.29 in ui: one environment.*No file was"
    ):
        lock.lock(["httpx"])
    assert set(resolver.written().values()) == {LOCK}


def test_a_service_with_an_environment_of_its_own_holds_nothing_back(resolver: Resolver) -> None:
    resolver.upgraded, resolver.differs = "httpx==0.29", {"services/mlflow": "httpx==0.28.1"}
    lock.lock(["httpx"])
    assert "httpx==0.28.1" in resolver.written()["services/mlflow/requirements.lock"]
    assert "httpx==0.29" in resolver.written()["services/predictor/requirements.lock"]


def test_a_name_that_no_lock_has_is_refused(resolver: Resolver) -> None:
    with pytest.raises(Failure, match=r"no lock file has a package numpyy$"):
        lock.lock(["numpyy"])


def test_pins_that_do_not_fit_are_an_error_that_says_what_to_do(resolver: Resolver) -> None:
    resolver.unsolved = "you require httpx>=1"
    with pytest.raises(Failure, match=r'(?s)services/.*you require httpx>=1.*make lock UPGRADE="NAME \.\.\."'):
        lock.lock()
