"""Plugins, settings and fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import settings

from ci.local.processes import LocalPlatform
from tests.kit.long_form import LONG

pytest_plugins = ("pytester", "tests.kit.skips", "tests.kit.distribution")

# Airflow has an environment of its own, in which `make test` and `make unit` run the tests of the DAGs.
collect_ignore = [] if find_spec("airflow") else ["dags"]

# Workers share the cores: more threads in each would only wait. Polars reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")

# A helm process lives for less than a second. With fewer garbage collections it needs a fifth less of the CPU.
os.environ.setdefault("GOGC", "400")

# On a slow machine tests may be slow. Where CI is set, Hypothesis has its own profile, which draws the same every time
settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that only the long form has."""
    if LONG:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """Starts parts when they are asked for; all end with the session."""
    with LocalPlatform(tmp_path_factory.mktemp("local")) as platform:
        yield platform
