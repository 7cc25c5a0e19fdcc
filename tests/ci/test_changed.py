"""`make check` finds the unit tests of a changed file, and says what it leaves out."""

from __future__ import annotations

import sys

import pytest

from ci.checks import changed as check
from ci.common.paths import CHECKOUT


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("services/core/src/core/stores/objects.py", {"tests/services/core/test_objects.py"}),
        ("services/pipeline/src/pipeline/evaluation/gate.py", {"tests/services/pipeline/test_gate.py"}),
        ("ci/deploy/release.py", {"tests/ci/test_release.py"}),
        ("tests/services/core/test_objects.py", {"tests/services/core/test_objects.py"}),
        ("tests/kit/world.py", {"tests/services/pipeline/test_purity.py"}),
        ("tests/charts/conftest.py", {"tests/charts/test_security.py", "tests/charts/test_labels.py"}),
        ("charts/fastapi/templates/deployment.yaml", {"tests/charts", "tests/dags/test_chart.py"}),
        ("ci/doctor/README.md", {"tests/ci/test_pages.py"}),
        ("services/airflow/dags/stage_pod.py", {"tests/dags"}),
    ],
)
def test_changed_file_has_its_tests(path: str, tests: set[str]) -> None:
    assert tests <= set(check.select([path]).tests)


def test_module_that_many_tests_import_has_only_those_of_its_name() -> None:
    path = "services/core/src/core/errors.py"
    selection = check.select([path])
    assert len(selection.tests) < check.MOST
    [note] = selection.notes
    assert note.startswith(f"{path}: ")
    assert note.endswith("more test files import it; `make unit` runs them")


def test_folder_is_named_once_and_its_files_are_not() -> None:
    selection = check.select(["charts/lib/templates/_pod.tpl", "tests/charts/test_labels.py"])
    assert "tests/charts" in selection.tests
    assert "tests/charts/test_labels.py" not in selection.tests


def test_tests_of_the_dags_run_in_the_environment_of_airflow() -> None:
    selection = check.Selection(["tests/dags/test_chart.py", "tests/charts"], [])
    commands = {tuple(command[:3]): command for _, command in check.commands(selection, workers=1)}
    assert commands[str(check.DAGS_PYTHON), "-m", "pytest"][-1] == "tests/dags/test_chart.py"
    assert commands[sys.executable, "-m", "pytest"][-1] == "tests/charts"


def test_tests_that_need_a_cluster_are_left_out() -> None:
    assert check.select(["tests/cluster/test_cluster.py", "tests/e2e/conftest.py"]).tests == []


def test_every_path_of_the_table_exists() -> None:
    for start, tests in check.OTHERS.items():
        for path in (start, *tests):
            assert (CHECKOUT / path).exists(), path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("services/core/src/core/ledger/__init__.py", "core.ledger"),
        ("services/core/src/core/ledger/migrations/__init__.py", "core.ledger.migrations"),
        ("ci/images/store.py", "ci.images.store"),
        ("tests/services/ledgers.py", "tests.services.ledgers"),
    ],
)
def test_module_is_named_as_it_is_imported(path: str, name: str) -> None:
    assert check.module(path) == name
