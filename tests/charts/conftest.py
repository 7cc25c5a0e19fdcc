"""A test that asks for `workload` runs for every object that makes pods; for `variant`, for every set of values."""

from __future__ import annotations

import pytest

from tests.charts.rendering import ENVIRONMENTS, VARIANTS, every_workload


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "workload" in metafunc.fixturenames:
        metafunc.parametrize("workload", every_workload(), ids=str)
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", VARIANTS)
    if "env" in metafunc.fixturenames:
        metafunc.parametrize("env", ENVIRONMENTS)
