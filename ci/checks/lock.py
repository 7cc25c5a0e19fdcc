"""Resolve every Python package of the workspace once and write the hash-pinned requirement files.

`services/<name>/requirements.lock` has the packages of that image. Three files at the top have the levels of the
checkout's environment: `requirements-deploy.lock`, `requirements-test.lock` and `requirements-dev.lock`, which has
every package. All come from one resolution, so a package has one version everywhere.

Existing versions and hashes do not change. New packages are added, and unused packages are removed. `--upgrade`
upgrades all packages, or those that it names. The files do not name a registry: pip and uv use the configured one.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from ci.common.console import Failure, main, phase, run, say
from ci.common.paths import CHECKOUT

HEADER = "# Written by `make lock`; do not edit. Hashes of every file of each version, for all supported Pythons.\n"
EVERY = CHECKOUT / "requirements-dev.lock"
# Options of `uv export` for the files at the top; each level holds the one before.
LEVELS = {
    "requirements-deploy.lock": ("--package", "house-platform", "--no-default-groups"),
    "requirements-test.lock": ("--all-packages", "--no-default-groups", "--group", "test"),
    EVERY.name: ("--all-packages", "--all-groups"),
}


def members() -> list[str]:
    """Names of the workspace's services, as folders under services/."""
    workspace = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    return [member.removeprefix("services/") for member in workspace]


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


def pins(text: str, upgrade: Collection[str] = ()) -> list[str]:
    """The requirements of a lock, without the packages to upgrade.

    Raises:
        Failure: a package to upgrade is not in the lock.
    """
    names = {_normal(name) for name in upgrade}
    packages = {requirement: _normal(re.split(r"[=\[]", requirement)[0]) for requirement in blocks(text)}
    if unknown := names - set(packages.values()):
        raise Failure(f"{EVERY.name} has no package {', '.join(sorted(unknown))}")
    return [requirement for requirement, name in packages.items() if name not in names]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_hashes(text: str, locked: Mapping[str, list[str]]) -> str:
    """A lock's text with the locked hashes of a version in place of those that the registry lists now.

    A registry may list more files of a version later, or fewer. Neither changes a lock.
    """
    lines = []
    for requirement, hashes in blocks(text).items():
        lines += [f"{requirement} \\", *locked.get(requirement.partition(" ;")[0], hashes)]
    return "".join(f"{line}\n" for line in lines)


def workspace(folder: Path, constraints: list[str]) -> None:
    """Copy the inputs of a resolution into a folder, and add constraints, which uv reads only from pyproject.toml."""
    for name in ("", *(f"services/{member}" for member in members())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name / "pyproject.toml", folder / name / "pyproject.toml")
    project = folder / "pyproject.toml"
    table = f"[tool.uv]\nconstraint-dependencies = {json.dumps(constraints)}\n"
    project.write_text(project.read_text().replace("[tool.uv]\n", table, 1))


def lock(upgrade: Collection[str] | None = None) -> None:
    """Write all requirement files; `upgrade` names the packages to upgrade; an empty one means all.

    Raises:
        Failure: the pins do not fit the requirements of pyproject.toml, or uv failed.
    """
    current = EVERY.read_text() if EVERY.exists() and (upgrade is None or upgrade) else ""
    constraints = pins(current, upgrade or ())
    locked = {name.partition(" ;")[0]: hashes for name, hashes in blocks(current).items() if name in constraints}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        workspace(folder, constraints)
        with phase("resolve the workspace", then="write requirement files"):
            _resolve(folder, pinned=bool(constraints))
        files: dict[Path, tuple[str, ...]] = {CHECKOUT / name: selection for name, selection in LEVELS.items()}
        for name in members():
            files[CHECKOUT / "services" / name / "requirements.lock"] = ("--package", f"house-{name}", "--no-dev")
        for file, selection in files.items():
            file.write_text(HEADER + with_hashes(_export(folder, *selection), locked))
    say(f"wrote {len(members())} locks of services, {', '.join(LEVELS)}")


def _resolve(folder: Path, pinned: bool) -> None:
    try:
        run(["uv", "lock"], cwd=folder)
    except Failure as unsolved:
        if not pinned:
            raise
        raise Failure(
            f"{unsolved}\nIf a pin does not fit pyproject.toml any more, name each such package: "
            'make lock UPGRADE="NAME ...", or UPGRADE=all'
        ) from unsolved


def _export(folder: Path, *selection: str) -> str:
    fixed = ["--no-emit-workspace", "--no-header", "--no-annotate", "--no-emit-project", "--frozen"]
    return run(["uv", "export", "--quiet", *fixed, "--format", "requirements-txt", *selection], cwd=folder).stdout


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
