"""All parts of the checkout have one version, and one command changes it everywhere."""

from __future__ import annotations

import shutil
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from ci.checks.new_version import FILES, change, current
from ci.checks.release_notes import notes
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.images.catalog import VERSION

TODAY = date(2026, 12, 1)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that have the version, with one line in the changelog."""
    for path in [*(path for pattern in FILES for path in CHECKOUT.glob(pattern)), CHECKOUT / "CHANGELOG.md"]:
        copy = tmp_path / path.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n- one\n\n## [0.0.1] - 2026-01-01\n\n- old\n"
    )
    return tmp_path


def versions(checkout: Path) -> dict[str, str]:
    """Every version in the project files and the charts, by file and key."""
    stated = {}
    for path in [checkout / "pyproject.toml", *checkout.glob("services/*/pyproject.toml")]:
        stated[str(path.relative_to(checkout))] = tomllib.loads(path.read_text())["project"]["version"]
    for path in checkout.glob("charts/*/Chart.yaml"):
        chart = yaml.safe_load(path.read_text())
        stated[str(path.relative_to(checkout))] = chart["version"]
        stated |= {
            f"{path.parent.name} -> {other['name']}": other["version"] for other in chart.get("dependencies", [])
        }
    return stated


def test_everything_has_one_version() -> None:
    assert {key: other for key, other in versions(CHECKOUT).items() if other != VERSION} == {}
    assert f'version="{VERSION}"' in (CHECKOUT / "services/datasource/src/datasource/app.py").read_text()


def test_a_new_version_reaches_every_file(checkout: Path) -> None:
    changed = change(checkout, "99.0.0", TODAY)
    assert set(versions(checkout).values()) == {current(checkout)} == {"99.0.0"}
    assert 'version="99.0.0"' in (checkout / "services/datasource/src/datasource/app.py").read_text()
    assert len(changed) == 1 + len([path for pattern in FILES for path in checkout.glob(pattern)])
    changelog = (checkout / "CHANGELOG.md").read_text()
    assert "## [Unreleased]\n\n## [99.0.0] - 2026-12-01\n\n- one\n\n## [0.0.1]" in changelog


def test_programs_of_others_keep_their_versions(checkout: Path) -> None:
    def programs() -> dict[str, str]:
        charts = {path.parent.name: yaml.safe_load(path.read_text()) for path in checkout.glob("charts/*/Chart.yaml")}
        stated = {name: chart["appVersion"] for name, chart in charts.items() if "appVersion" in chart}
        return {name: version for name, version in stated.items() if version != current(checkout)}

    before = programs()
    change(checkout, "99.0.0", TODAY)
    assert programs() == before != {}


@pytest.mark.parametrize(
    ("version", "error"),
    [("1.0", "must have three numbers"), ("v1.0.0", "must have three numbers"), ("0.0.1", "is not newer than")],
)
def test_a_wrong_version_changes_nothing(checkout: Path, version: str, error: str) -> None:
    before = versions(checkout)
    with pytest.raises(Failure, match=error):
        change(checkout, version, TODAY)
    assert versions(checkout) == before


def test_a_version_without_notes_is_refused(checkout: Path) -> None:
    change(checkout, "98.0.0", TODAY)
    with pytest.raises(Failure, match=r"CHANGELOG\.md has nothing under"):
        change(checkout, "99.0.0", TODAY)
    assert current(checkout) == "98.0.0"


def test_the_present_version_has_notes() -> None:
    """Except for 0.1.0, which was never released."""
    if VERSION != "0.1.0":
        assert notes(VERSION, (CHECKOUT / "CHANGELOG.md").read_text())
