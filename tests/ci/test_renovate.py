"""Every pattern of Renovate matches a file and a version. Renovate reports no error for a pattern without match."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from ci.common.git import files
from ci.common.paths import CHECKOUT

SETTINGS: dict[str, Any] = json.loads((CHECKOUT / ".github/renovate.json").read_text())
FILES = files(CHECKOUT)
MODULES = [name for name in FILES if name.endswith("go.mod")]


@pytest.mark.parametrize("manager", SETTINGS["customManagers"], ids=lambda one: one["description"].partition(",")[0])
def test_every_pattern_finds_a_version_in_every_file_that_it_names(manager: dict[str, Any]) -> None:
    for pattern in manager["managerFilePatterns"]:
        named = [name for name in FILES if re.search(pattern.strip("/"), name)]
        assert named, f"{pattern} matches no file"
        for name in named:
            text = (CHECKOUT / name).read_text()
            matches = [re.search(one.replace("(?<", "(?P<"), text) for one in manager["matchStrings"]]
            assert any(matches), f"{name} does not match any of {manager['matchStrings']}"


def test_uv_is_one_version_everywhere() -> None:
    [uv] = [one for one in SETTINGS["customManagers"] if one.get("depNameTemplate") == "uv"]
    [pattern] = uv["matchStrings"]
    named = [name for name in FILES for file in uv["managerFilePatterns"] if re.search(file.strip("/"), name)]
    versions = {name: re.search(pattern.replace("(?<", "(?P<"), (CHECKOUT / name).read_text()) for name in named}
    assert len({match["currentValue"] for match in versions.values() if match}) == 1, versions


def test_every_go_module_is_in_one_group() -> None:
    groups = {
        rule["groupName"]: rule["matchFileNames"] for rule in SETTINGS["packageRules"] if "matchFileNames" in rule
    }
    for module in MODULES:
        matching = [group for group, patterns in groups.items() if any(fnmatch(module, one) for one in patterns)]
        assert len(matching) == 1, f"{module}: {matching}"
    for group, patterns in groups.items():
        assert any(fnmatch(module, one) for module in MODULES for one in patterns), f"{group} has no module"


def test_a_setting_that_renovate_does_not_know_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "renovate.json"
    wrong.write_text(json.dumps({**SETTINGS, "prConcurrentLimit": "four"}))
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.renovate", wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "prConcurrentLimit" in done.stdout) == (1, True), done.stdout
