"""The three levels of the checkout's environment: each has what its targets import, and they grow without loss."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ci.checks.changed import DAGS_PYTHON
from ci.checks.lock import DAGS, LEVELS, blocks, members
from ci.common.paths import CHECKOUT
from ci.images.base import UV_LOCK
from ci.local.processes import MLFLOW_PYTHON

MAKEFILE = (CHECKOUT / "Makefile").read_text()
# where packages of this repository are imported from
ROOTS = (CHECKOUT, *(CHECKOUT / "services").glob("*/src"), *(CHECKOUT / "services" / "airflow").iterdir())
DEPLOYED = {"ci", "tests", "pipeline"}  # of them, what the level deploy has
# What runs in an environment of its own: servers of the bench, the DAGs and their tests, MLflow's server
APART = [CHECKOUT / place for place in ("tests/bench/serving/peers", "services/airflow", DAGS, "services/mlflow")]


def deploying() -> dict[str, set[str]]:
    """Modules that each target runs which needs no more than deploy."""
    recipes = re.findall(r"^([a-z][a-z0-9-]*): \.venv/deploy\b.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return {target: set(re.findall(r"\$\(PYTHON\) -m (\S+)", recipe)) for target, recipe in recipes}


def file_of(module: str) -> Path | None:
    """The source of a module of this repository."""
    for root in ROOTS:
        place = root.joinpath(*module.split("."))
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def ours(top: str) -> bool:
    """True for a package or module of this repository, by the first part of its name."""
    return any((root / top).is_dir() or (root / f"{top}.py").is_file() for root in ROOTS)


@cache
def imported(file: Path) -> frozenset[str]:
    """Every module that a file imports, those inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            modules |= {module, *(f"{module}.{name.name}" for name in node.names)}
    return frozenset(modules)


def reached(modules: set[str]) -> Iterator[tuple[str, str]]:
    """Packages that modules import at any depth, but for what the level deploy has of ours; each with its importer."""
    todo, seen = [(name, "make") for name in modules | {f"{name}.__main__" for name in modules}], set[str]()
    while todo:
        module, by = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        assert not module.startswith("."), f"{by} imports {module}: write the whole name"
        parents = [module.rpartition(".")[0]] if "." in module else []
        if file := file_of(module):
            todo += [(name, module) for name in (*imported(file), *parents)]
        top = module.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in DEPLOYED:
            yield top, by


@cache
def provided(lock: str) -> set[str]:
    """Modules of the distributions that a lock names."""
    names = {normal(name.split("==")[0].partition("[")[0]) for name in blocks((CHECKOUT / lock).read_text())}
    return {module for module, owners in packages_distributions().items() if {normal(one) for one in owners} & names}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_targets_that_only_deploy_are_found() -> None:
    assert {"up", "down", "run", "images", "install", "gitops", "bundle", "doctor", "release"} <= set(deploying())
    assert all(deploying().values())


@pytest.mark.parametrize("target", deploying())
def test_a_target_that_only_deploys_imports_only_what_deploy_has(target: str) -> None:
    has = provided("requirements-deploy.lock")
    lacking = {f"{by} imports {module}" for module, by in reached(deploying()[target]) if module not in has}
    assert not lacking, (
        f"`make {target}` needs .venv/deploy, and {'; '.join(sorted(lacking))}: add the package to "
        "`dependencies` in pyproject.toml and run `make lock`, or let the target need .venv/test"
    )


def test_test_has_what_tests_services_and_programs_import() -> None:
    has = provided("requirements-test.lock") | sys.stdlib_module_names
    sources = [file for place in ("ci", "tests", "services") for file in (CHECKOUT / place).rglob("*.py")]
    lacking = {
        f"{file.relative_to(CHECKOUT)} imports {module}"
        for file in sources
        if not any(place in file.parents for place in APART)
        for module in imported(file)
        if (top := module.partition(".")[0]) not in has and top and not ours(top)
    }
    assert not lacking, f"{'; '.join(sorted(lacking))}: add the package to the group test and run `make lock`"


def test_every_level_has_the_one_before() -> None:
    deploy, test, dev = (blocks((CHECKOUT / name).read_text()) for name in LEVELS)
    assert deploy.items() <= test.items()
    assert test.items() <= dev.items()


@pytest.mark.parametrize(
    ("service", "environment"),
    [*((service, "requirements-test.lock") for service in members()), ("airflow", f"{DAGS}/requirements.lock")],
)
def test_a_service_is_tested_with_the_versions_and_hashes_of_its_image(service: str, environment: str) -> None:
    tested = {line.partition(" ;")[0]: hashes for line, hashes in blocks((CHECKOUT / environment).read_text()).items()}
    for requirement, hashes in blocks((CHECKOUT / f"services/{service}/requirements.lock").read_text()).items():
        assert tested.get(requirement.partition(" ;")[0]) == hashes, f"{service}: {requirement}; run `make lock`"


def test_mlflow_runs_with_the_lock_and_without_the_excluded_packages_of_its_image() -> None:
    [(inputs, recipe)] = re.findall(r"^\$\(MLFLOW\): (.*) \|.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert inputs.split() == ["services/mlflow/requirements.lock", "services/mlflow/excludes.txt"]
    assert "$(HASHED) -r $<" in recipe
    assert "services/mlflow/excludes.txt | xargs $(UV) pip uninstall" in recipe


def test_uv_is_installed_with_the_hashes_of_its_version() -> None:
    [(requirement, hashes)] = blocks(UV_LOCK.read_text()).items()
    printed = subprocess.run(
        ["make", "-s", "--eval", "version: ; @echo uv==$(UV_VERSION)", "version"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert printed.stdout.strip() == requirement
    assert all(line.startswith("    --hash=sha256:") for line in hashes)
    assert hashes, "no hash"


def test_every_package_is_installed_with_hashes() -> None:
    """Our own packages are installed from the checkout. `make uv-lock` writes hashes, so it has none before."""
    recipes = re.sub(r"^uv-lock:.*\n(?:\t.*\n)+", "", MAKEFILE, flags=re.MULTILINE)
    commands = re.findall(r"pip\"? (?:install|sync) [^|;&\n]*", recipes)
    assert len(commands) > 5, commands
    assert [command for command in commands if "$(HASHED)" not in command and "--no-deps" not in command] == []


@pytest.mark.parametrize(("variable", "python"), [("MLFLOW", MLFLOW_PYTHON), ("DAGS", DAGS_PYTHON)])
def test_programs_find_the_environments_that_make_creates(variable: str, python: Path) -> None:
    [folder] = re.findall(rf"^{variable} := (.*)/ready$", MAKEFILE, re.MULTILINE)
    assert python == CHECKOUT / folder / "bin" / "python"


@pytest.mark.parametrize("target", ["test", "unit"])
def test_a_target_with_all_unit_tests_runs_those_of_the_dags_too(target: str) -> None:
    [(needed, recipe)] = re.findall(rf"^{target}: (.*?) ##.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert "$(DAGS)" in needed
    assert "\t$(TEST_DAGS)\n" in recipe


class Checkout:
    """A copy of what the rules of .venv read, with a program in the place of uv that notes how it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        shutil.copyfile(CHECKOUT / "Makefile", folder / "Makefile")
        others = ("services/requirements-uv.lock", "services/mlflow/requirements.lock", "services/mlflow/excludes.txt")
        for name in (*LEVELS, *others, *(f"services/{member}/pyproject.toml" for member in members())):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, folder / name)
        uv = folder / "uv"
        uv.write_text(
            '#!/bin/sh\nfor last; do :; done\n[ "$1" != venv ] || { rm -rf "$last" && mkdir -p "$last"; }\n'
            f'case "$*" in *"$FAIL"*) exit 1;; esac\necho "$@" >> {self.calls}\n'
        )
        uv.chmod(0o755)

        for file in folder.rglob("*"):
            os.utime(file, (0, 0))

    def make(self, level: str, fail: str = "nothing") -> list[str]:
        """Calls of uv, shortened."""
        self.calls.write_text("")
        words = ["make", "--silent", f".venv/{level}", f"UV={self.folder}/uv"]
        done = subprocess.run(
            words, cwd=self.folder, env={**os.environ, "FAIL": fail}, capture_output=True, text=True, check=False
        )
        assert done.stdout == "", "a program may read what a target prints"
        assert bool(done.returncode) == (fail != "nothing"), done.stderr
        short = re.compile(r"^(venv|pip \w+).*?(?: (?:-r )?requirements-(\w+)\.lock| -e .*| \.venv)$", re.MULTILINE)
        return [" ".join(filter(None, call)) for call in short.findall(self.calls.read_text())]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


DEPLOY = ["venv", "pip install deploy", "pip install"]
TEST = ["pip sync test", "pip install"]
READY = ["pip install dev"]


def test_each_level_adds_to_the_one_before(checkout: Checkout) -> None:
    assert checkout.make("deploy") == DEPLOY
    assert checkout.make("test") == TEST
    assert checkout.make("ready") == READY


def test_a_complete_environment_is_left_alone_by_every_level(checkout: Checkout) -> None:
    assert checkout.make("ready") == [*DEPLOY, *TEST, *READY]
    assert [checkout.make(level) for level in ("deploy", "test", "ready")] == [[], [], []]


def test_a_changed_lock_of_deploy_makes_the_environment_anew(checkout: Checkout) -> None:
    checkout.make("ready")
    (checkout.folder / "requirements-deploy.lock").touch()
    assert checkout.make("deploy") == DEPLOY
    assert checkout.make("deploy") == []
    assert checkout.make("ready") == [*TEST, *READY]


@pytest.mark.parametrize("changed", ["requirements-test.lock", "services/core/pyproject.toml"])
def test_a_changed_lock_of_test_leaves_deploy_alone(checkout: Checkout, changed: str) -> None:
    checkout.make("ready")
    (checkout.folder / changed).touch()
    assert checkout.make("deploy") == []
    assert checkout.make("test") == TEST
    assert checkout.make("ready") == READY, "what is synchronised to test has no linters any more"


def test_only_the_level_test_brings_mlflows_server(checkout: Checkout) -> None:
    server = checkout.folder / "build" / "mlflow-venv" / "ready"
    checkout.make("deploy")
    assert not server.exists()
    checkout.make("test")
    assert server.exists()


def test_an_interrupted_level_is_made_again(checkout: Checkout) -> None:
    checkout.make("test", fail="sync")
    assert checkout.make("deploy") == []
    assert checkout.make("test") == TEST
