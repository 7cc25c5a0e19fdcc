"""Resolve every Python package of the workspace once and write the hash-pinned requirement files.

`services/<name>/requirements.lock` holds what that image installs, `requirements-dev.lock` everything at once
for tests and for the programs under ci/. All come from one resolution, so a package has one version everywhere.
The files name no registry: pip and uv use the one they are configured with.
"""

from __future__ import annotations

import argparse
import tomllib

from ci.console import main, phase, run, say
from ci.paths import CHECKOUT

HEADER = "# Written by `make lock`; do not edit. Hashes of every file of each version, for all supported Pythons.\n"


def members() -> list[str]:
    """Names of the workspace's services, as folders under services/."""
    workspace = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    return [member.removeprefix("services/") for member in workspace]


def _export(*selection: str) -> str:
    fixed = [
        "--no-emit-workspace",
        "--no-header",
        "--no-annotate",
        "--no-emit-project",
        "--frozen",
        "--format",
        "requirements-txt",
    ]
    return HEADER + run(["uv", "export", "--quiet", *fixed, *selection], cwd=CHECKOUT).stdout


def lock() -> None:
    """Resolve anew and write all requirement files."""
    with phase("resolve the workspace", then="write requirement files"):
        run(["uv", "lock", "--upgrade"], cwd=CHECKOUT)
    for service in members():
        (CHECKOUT / "services" / service / "requirements.lock").write_text(
            _export("--package", f"house-{service}", "--no-dev")
        )
    (CHECKOUT / "requirements-dev.lock").write_text(_export("--all-packages", "--all-groups"))
    say(f"wrote {len(members())} service locks and requirements-dev.lock")


def _main() -> None:
    argparse.ArgumentParser(prog="python -m ci.lock", description=__doc__).parse_args()
    lock()


if __name__ == "__main__":
    main(_main)
