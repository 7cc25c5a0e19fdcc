"""Quick check of changed files: lint, types and their unit tests in parallel, in less than a minute.

A file is changed if it differs from the base, committed or not. A test belongs to a module if it has the module's name
or imports it. For a module that many tests import, only the tests with its name run: `make unit` runs all.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from ci.common.console import Failure, main, say
from ci.common.git import git
from ci.common.paths import CHECKOUT

TESTS = CHECKOUT / "tests"
NOT_UNIT = ("cluster", "closed", "gitops", "e2e", "upgrade", "faults")  # folders of tests that need a cluster
DAGS_PYTHON = CHECKOUT / "build" / "dags-venv" / "bin" / "python"  # Airflow has an environment of its own
MOST = 8  # largest number of importing test files that run for one module
# Tests for files that tests do not import, by the start of the path.
OTHERS = {
    ".github/": ["tests/ci/test_workflows.py", "tests/ci/test_renovate.py"],
    "charts/": ["tests/charts", "tests/contracts", "tests/dags/test_chart.py", "tests/monitoring/test_chart.py"],
    "values/": ["tests/charts"],
    "argocd/": ["tests/charts/test_argocd.py"],
    "services/airflow/": ["tests/dags"],
    "services/monitoring/": ["tests/monitoring"],
    "ci/monitoring/": ["tests/monitoring", "tests/contracts"],
    "ci/images/": ["tests/images"],
    "services/Dockerfile": ["tests/images"],
    "Makefile": ["tests/ci/test_help.py", "tests/ci/test_environments.py"],
    "SECURITY.md": ["tests/charts/test_open_pages.py"],
    "docs/how-to/publish-a-page.md": ["tests/charts/test_open_pages.py"],
    "docs/how-to/secrets-from-elsewhere.md": ["tests/charts/test_secrets_from_elsewhere.py"],
}


@dataclass(frozen=True)
class Selection:
    """Test files to run, and notes about those left out."""

    tests: list[str]
    notes: list[str]


def changed(base: str) -> list[str]:
    """Paths that differ from the commit at which this branch left `base`, and untracked files."""
    differ = git(CHECKOUT, "diff", "--name-only", "--diff-filter=d", "--merge-base", base)
    new = git(CHECKOUT, "ls-files", "--others", "--exclude-standard")
    return sorted({*differ.split("\n"), *new.split("\n")} - {""})


def default_base() -> str:
    """Branch that this one will be merged into."""
    for name in ("origin/main", "main"):
        if git(CHECKOUT, "rev-parse", "--verify", "--quiet", name, check=False):
            return name
    return "HEAD"


def module(path: str) -> str:
    """Dotted name of a Python file, as it is imported."""
    parts = PurePath(path).with_suffix("").parts
    if parts[0] == "services":
        parts = parts[3:]  # services/<member>/src/
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """Dotted names of all imports of a file, including those inside functions."""
    package = file.relative_to(CHECKOUT).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (above, node.module or "") if part)
            names |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    return names


@cache
def unit_tests() -> dict[str, set[str]]:
    """Every file with unit tests, and its imports."""
    files = (file for file in sorted(TESTS.rglob("test_*.py")) if file.relative_to(TESTS).parts[0] not in NOT_UNIT)
    return {str(file.relative_to(CHECKOUT)): imports(file) for file in files}


def _of_python(path: str) -> tuple[list[str], list[str]]:
    """Tests of a Python file: those with its name, and others that import it."""
    name = PurePath(path).name
    if path in unit_tests():
        return [path], []
    if name == "conftest.py":
        folder = PurePath(path).parent
        return [test for test in unit_tests() if PurePath(test).parent == folder], []
    own = [test for test in unit_tests() if PurePath(test).name == f"test_{name}" and _same_package(test, path)]
    others = [test for test, used in unit_tests().items() if module(path) in used and test not in own]
    return own, others


def _same_package(test: str, path: str) -> bool:
    """Whether test and file belong to the same package. Example: tests/images and ci/images."""
    folder = PurePath(test).parent.name
    return folder in PurePath(path).parent.parts


def select(paths: Iterable[str]) -> Selection:
    """The unit tests of changed files."""
    tests: dict[str, None] = {}
    notes = []
    for path in paths:
        matches = [test for start, of_it in OTHERS.items() if path.startswith(start) for test in of_it]
        if path.endswith(".md"):
            matches.append("tests/ci/test_pages.py")
        if path.endswith(".py"):
            own, others = _of_python(path)
            matches += own
            if len(others) <= MOST:
                matches += others
            else:
                notes.append(f"{path}: {len(others)} more test files import it; `make unit` runs them")
        tests |= dict.fromkeys(matches)
    whole = [
        test for test in tests if not any(PurePath(test).is_relative_to(other) for other in tests if other != test)
    ]
    return Selection([test for test in whole if (CHECKOUT / test).exists()], notes)


def commands(selection: Selection, workers: int) -> Iterator[tuple[str, list[str]]]:
    """The name and the command of each check."""
    yield "lint", ["make", "--no-print-directory", "lint"]
    yield "types", ["make", "--no-print-directory", "types"]
    dags = [test for test in selection.tests if test.startswith("tests/dags")]
    others = [test for test in selection.tests if test not in dags]
    for name, python, tests in (("tests", sys.executable, others), ("DAG tests", DAGS_PYTHON, dags)):
        if tests:
            pytest = ["-m", "pytest", "-q", "-n", str(workers), "-m", "not services and not e2e"]
            yield name, [str(python), *pytest, *tests]


def _run(name: str, command: list[str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    fine = done.returncode == 0 or ("tests" in name and done.returncode == 5)  # 5: all tests are deselected
    say(f"{name}: {'passed' if fine else 'FAILED'} in {time.monotonic() - began:.0f} s")
    if not fine or "tests" in name:
        print(done.stdout.rstrip(), flush=True)
    return fine


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ci.checks.changed", description=__doc__)
    parser.add_argument("--base", default="", help="branch or commit to compare with; default: origin/main, else main")
    parser.add_argument("--workers", type=int, default=2, help="processes that run the tests")
    options = parser.parse_args()
    base = options.base or default_base()
    paths = changed(base)
    selection = select(paths)
    say(f"{len(paths)} files differ from {base}: {len(selection.tests)} test files or folders")
    for line in [*selection.tests, *selection.notes]:
        print(f"  {line}", flush=True)
    with ThreadPoolExecutor() as together:
        fine = list(together.map(lambda one: _run(*one), commands(selection, options.workers)))
    if not all(fine):
        raise Failure("checks failed: see above")


if __name__ == "__main__":
    main(_main)
