"""The import contracts of `.importlinter` hold, and each one fails on an import that it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from ci.common.paths import CHECKOUT

CONFIGURATION = CHECKOUT / ".importlinter"
PACKAGES = {name: f"services/{name}/src/{name}" for name in ("core", "pipeline", "predictor", "ui", "datasource")} | {
    "ci": "ci"
}
# For each contract: modules, each with an import that the contract forbids there.
VIOLATIONS = {
    "core-stands-alone": {"core/errors.py": "import pipeline.outcome"},
    "core-layers": {"core/listing/schema.py": "import core.features.columns"},
    "postgresql": {"pipeline/context.py": "import psycopg"},
    "services-are-independent": {"predictor/logs.py": "import pipeline.outcome"},
    "services-without-tooling": {"datasource/faults.py": "import ci.common.paths"},
    "programs": {
        "ci/deploy/runs.py": "import ci.images.__main__",
        "predictor/app.py": "from predictor import __main__",
    },
    "small-services-without-core": {"ui/notices.py": "import core.errors"},
    "stages-are-independent": {"pipeline/stages/split.py": "import pipeline.stages.validate"},
    "pipeline-layers": {"pipeline/training/masking.py": "import pipeline.stages.train"},
    "http-framework": {"predictor/record/spill.py": "from fastapi import Request"},
    "pricing": {"predictor/pricing/explanations.py": "import predictor.serving.cache"},
    "ci-layers": {
        "ci/common/paths.py": "import ci.deploy.secrets",
        "ci/deploy/runs.py": "import ci.argocd.sync",
        "ci/doctor/host.py": "import ci.argocd.sync",
        "ci/images/catalog.py": "import ci.deploy.release",
        "ci/cluster/docker.py": "import ci.images.catalog",
    },
    "ci-deploy-layers": {"ci/deploy/secrets.py": "import ci.deploy.platform"},
    "ci-checks-are-independent": {"ci/checks/docs.py": "import ci.checks.lock"},
    "ci-without-services": {"ci/deploy/runs.py": "import pipeline.outcome"},
    "ci-registryless": {"ci/images/base.py": "import ci.cluster.registryless.engine"},
}


def names() -> dict[str, str]:
    """The name of each contract, by its id."""
    configuration = ConfigParser()
    configuration.read(CONFIGURATION)
    prefix = "importlinter:contract:"
    return {
        section.removeprefix(prefix): configuration[section]["name"]
        for section in configuration.sections()
        if section.startswith(prefix)
    }


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with copies of our packages, where lint-imports finds them before the installed ones."""
    for package, source in PACKAGES.items():
        shutil.copytree(CHECKOUT / source, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc", "go", "*.lock"))
    return tmp_path


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run lint-imports in a folder; without contracts, it checks all of them."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", str(CONFIGURATION), "--no-cache"]
    for contract in contracts:
        command += ["--contract", contract]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_there_is_a_violation_for_each_contract() -> None:
    assert set(VIOLATIONS) == set(names())


def test_all_contracts_hold(packages: Path) -> None:
    done = lint(packages)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("contract", "module"), [(contract, module) for contract, modules in VIOLATIONS.items() for module in modules]
)
def test_contract_fails_on_a_forbidden_import(packages: Path, contract: str, module: str) -> None:
    file = packages / module
    file.write_text(f"{file.read_text()}\n\n{VIOLATIONS[contract][module]}\n")
    done = lint(packages, contract)
    assert done.returncode == 1, done.stdout + done.stderr
    report = " ".join(done.stdout.split())  # without line breaks of the console
    assert f"{names()[contract]} BROKEN" in report
