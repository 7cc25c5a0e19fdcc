"""Resolve the Python packages of each image and each environment, and write the hash-pinned requirement files.

`services/<name>/requirements.lock` comes from a resolution of that service alone, so no image holds a package of
another one back. The other files belong to environments of the checkout, which take the versions of the services that
they test: `requirements-deploy.lock`, `requirements-test.lock` and `requirements-dev.lock` are the levels of `.venv`,
and `tests/dags/requirements.lock` is Airflow with what the tests of the DAGs import.

Existing versions and hashes do not change. New packages are added, and unused packages are removed. `--upgrade`
upgrades all packages, or those that it names, in every file. The files do not name a registry: pip and uv use the
configured one.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci.common.agreements import disagreements
from ci.common.console import Failure, main, phase, run, say
from ci.common.paths import CHECKOUT

HEADER = "# Written by `make lock`; do not edit. Hashes of every file of each version, for all supported Pythons.\n"
# Options of `uv export` for the levels of .venv; each level holds the one before.
LEVELS = {
    "requirements-deploy.lock": ("--package", "house-platform", "--no-default-groups"),
    "requirements-test.lock": ("--all-packages", "--no-default-groups", "--group", "test"),
    "requirements-dev.lock": ("--all-packages", "--all-groups"),
}
EVERY = list(LEVELS)[-1]
DAGS = "tests/dags"


@dataclass(frozen=True)
class Resolution:
    """Projects that are resolved together, and the lock files that hold the result.

    `projects` are folders with a pyproject.toml. `exports` has the options of `uv export` for each lock file. `follows`
    are locks of services whose new versions the resolution takes. `keeps` are locks whose old versions it keeps; the
    first one that has a package decides.
    """

    projects: tuple[str, ...]
    exports: Mapping[str, tuple[str, ...]]
    keeps: tuple[str, ...]
    follows: tuple[str, ...] = ()


def members() -> list[str]:
    """Names of the services whose packages are in .venv, as folders under services/."""
    workspace = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    return [member.removeprefix("services/") for member in workspace]


def services() -> list[str]:
    """Names of all services with Python packages, as folders under services/."""
    return sorted(file.parent.name for file in (CHECKOUT / "services").glob("*/pyproject.toml"))


def lock_of(service: str) -> str:
    """The lock file of a service."""
    return f"services/{service}/requirements.lock"


def resolutions() -> list[Resolution]:
    """Every resolution: the services, then the environments that follow them.

    A package that is new in a service of .venv takes the version that .venv has, because both must agree.
    """
    together = members()
    alone = [_of(f"services/{name}", lock_of(name), beside=name in together) for name in services()]
    projects = ("", *(f"services/{name}" for name in together))
    checkout = Resolution(projects, LEVELS, keeps=(EVERY,), follows=tuple(lock_of(name) for name in together))
    return [*alone, checkout, _of(DAGS, f"{DAGS}/requirements.lock", lock_of("airflow"), beside=True)]


def _of(project: str, file: str, *follows: str, beside: bool) -> Resolution:
    """The resolution of one project and of the projects of this repository that it needs."""
    settings = tomllib.loads((CHECKOUT / project / "pyproject.toml").read_text())
    ours = settings.get("tool", {}).get("uv", {}).get("sources", {})
    needed = (f"services/{name.removeprefix('house-')}" for name in ours)
    options = ("--package", settings["project"]["name"], "--no-dev")
    return Resolution((project, *needed), {file: options}, (file, EVERY) if beside else (file,), follows)


def blocks(text: str) -> dict[str, list[str]]:
    """The lines with hashes of each requirement in a lock, by its first line: `name==version`, perhaps a marker."""
    requirements: dict[str, list[str]] = {}
    hashes: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            hashes.append(line)
        elif line and not line.startswith("#"):
            hashes = requirements[line.removesuffix(" \\")] = []
    return requirements


def package(requirement: str) -> str:
    """The normalised name of a requirement's package."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=\[]", requirement)[0]).lower()


def pins(text: str, upgrade: Collection[str] = ()) -> list[str]:
    """The requirements of a lock, without the packages to upgrade."""
    names = {package(name) for name in upgrade}
    return [requirement for requirement in blocks(text) if package(requirement) not in names]


def with_hashes(text: str, locked: Mapping[str, list[str]]) -> str:
    """A lock's text with the locked hashes of a version in place of those that the registry lists now.

    A registry may list more files of a version later, or fewer. Neither changes a lock.
    """
    lines = []
    for requirement, hashes in blocks(text).items():
        lines += [f"{requirement} \\", *locked.get(requirement.partition(" ;")[0], hashes)]
    return "".join(f"{line}\n" for line in lines)


def workspace(folder: Path, projects: Iterable[str], constraints: list[str]) -> None:
    """Copy the projects of a resolution into a folder, and add constraints, which uv reads from its pyproject.toml."""
    for name in projects:
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name / "pyproject.toml", folder / name / "pyproject.toml")
    root = folder / "pyproject.toml"
    if "" not in projects:
        root.write_text(f"[tool.uv]\n\n[tool.uv.workspace]\nmembers = {json.dumps(list(projects))}\n")
    table = f"[tool.uv]\nconstraint-dependencies = {json.dumps(constraints)}\n"
    root.write_text(root.read_text().replace("[tool.uv]\n", table, 1))


def lock(upgrade: Collection[str] | None = None) -> None:
    """Write all requirement files; `upgrade` names the packages to upgrade; an empty one means all.

    Nothing is written unless everything is resolved.

    Raises:
        Failure: no file has a package to upgrade; the pins do not fit the requirements of pyproject.toml; services
            disagree on a version (`ci.common.agreements`); or uv failed.
    """
    todo = resolutions()
    before = {file: _read(file) if upgrade is None or upgrade else "" for one in todo for file in one.exports}
    present = {package(requirement) for text in before.values() for requirement in blocks(text)}
    if unknown := {package(name) for name in upgrade or ()} - present:
        raise Failure(f"no lock file has a package {', '.join(sorted(unknown))}")
    kept = {file: pins(text, upgrade or ()) for file, text in before.items()}
    hashes = {
        requirement.partition(" ;")[0]: lines
        for file, text in before.items()
        for requirement, lines in blocks(text).items()
        if requirement in kept[file]
    }
    locks: dict[str, str] = {}
    with phase("resolve each image and each environment", then="write requirement files"):
        for one in todo:
            if one.follows:
                _agree(locks)
            followed = [requirement for file in one.follows for requirement in blocks(locks[file])]
            constraints = _first(followed, *(kept[file] for file in one.keeps))
            for file, text in _resolve(one, constraints).items():
                locks[file] = HEADER + with_hashes(text, hashes)
                hashes |= {entry.partition(" ;")[0]: lines for entry, lines in blocks(locks[file]).items()}
    for file, text in locks.items():
        (CHECKOUT / file).write_text(text)
    say(f"wrote {len(locks)} lock files")


def _first(*sources: Iterable[str]) -> list[str]:
    """The requirements of each source for packages that no earlier source has."""
    chosen: dict[str, None] = {}
    for source in sources:
        names = {package(requirement) for requirement in chosen}
        chosen |= dict.fromkeys(requirement for requirement in source if package(requirement) not in names)
    return list(chosen)


def _read(file: str) -> str:
    path = CHECKOUT / file
    return path.read_text() if path.exists() else ""


def _agree(locks: Mapping[str, str]) -> None:
    versions = {name: list(blocks(locks[lock_of(name)])) for name in services()}
    if lines := disagreements(versions, members()):
        raise Failure(
            "\n".join(lines)
            + "\nNo file was written. Upgrade the package in both: make lock UPGRADE=NAME. If one service "
            "cannot have that version, limit the package in the pyproject.toml of the other one."
        )


def _resolve(resolution: Resolution, constraints: list[str]) -> dict[str, str]:
    """Texts of the lock files of a resolution."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        workspace(folder, resolution.projects, constraints)
        try:
            run(["uv", "lock"], cwd=folder)
        except Failure as unsolved:
            if not constraints:
                raise
            raise Failure(
                f"{list(resolution.exports)[-1]}: {unsolved}\nIf a pin does not fit pyproject.toml any more, name each "
                'such package: make lock UPGRADE="NAME ...", or UPGRADE=all'
            ) from unsolved
        return {file: _export(folder, *options) for file, options in resolution.exports.items()}


def _export(folder: Path, *options: str) -> str:
    fixed = ["--no-emit-workspace", "--no-header", "--no-annotate", "--no-emit-project", "--frozen"]
    return run(["uv", "export", "--quiet", *fixed, "--format", "requirements-txt", *options], cwd=folder).stdout


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.lock", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--upgrade", nargs="*", metavar="NAME", help="upgrade these packages; all if there is no name, or with `all`"
    )
    named = parser.parse_args().upgrade
    lock([] if named == ["all"] else named)


if __name__ == "__main__":
    main(_main)
