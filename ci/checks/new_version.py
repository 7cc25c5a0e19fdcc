"""Give the checkout a new version, everywhere where it stands: project files, charts and CHANGELOG.md.

python -m ci.checks.new_version 0.2.0
"""

from __future__ import annotations

import argparse
import re
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

from ci.common.console import Failure, main, say
from ci.common.paths import CHECKOUT

# Each file has the version as `version = "..."`, `version: ...`, `version="..."` or `appVersion: "..."`.
FILES = (
    "pyproject.toml",
    "services/*/pyproject.toml",
    "charts/*/Chart.yaml",
    "services/datasource/src/datasource/app.py",
)
UNRELEASED = "## [Unreleased]\n"


def current(checkout: Path) -> str:
    """The version of a checkout, from its pyproject.toml."""
    return str(tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"])


def change(checkout: Path, version: str, today: date) -> list[str]:
    """Write a new version to all files, and give CHANGELOG.md a section for it; returns the changed files.

    Raises:
        Failure: the version is not newer than the present one, or nothing was noted for it in CHANGELOG.md.
    """
    old = current(checkout)
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Failure(f"{version!r} is not a version: it must have three numbers, for example 0.2.0")
    if _numbers(version) <= _numbers(old):
        raise Failure(f"{version} is not newer than {old}, the version in pyproject.toml")
    changelog = checkout / "CHANGELOG.md"
    before, heading, after = changelog.read_text().partition(UNRELEASED)
    if not heading or not after.partition("\n## ")[0].strip():
        raise Failure(f"CHANGELOG.md has nothing under `{UNRELEASED.strip()}`: write there what users notice")
    changed = [changelog]
    changelog.write_text(f"{before}{UNRELEASED}\n## [{version}] - {today.isoformat()}\n{after}")
    stated = re.compile(rf'\b((?:appV|v)ersion\s*[:=]\s*"?){re.escape(old)}\b')
    for path in sorted(path for pattern in FILES for path in checkout.glob(pattern)):
        text = path.read_text()
        if (new := stated.sub(rf"\g<1>{version}", text)) != text:
            path.write_text(new)
            changed.append(path)
    return [str(path.relative_to(checkout)) for path in changed]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.new_version",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", help="the new version, for example 0.2.0")
    version = parser.parse_args().version
    changed = change(CHECKOUT, version, datetime.now(UTC).date())
    say(f"{len(changed)} files have version {version}: {', '.join(changed)}")
    tag = f"v{version}"
    say(f"next: make docs, git commit, and after the merge: git tag -a {tag} -m {tag} && git push origin {tag}")


if __name__ == "__main__":
    main(_main)
