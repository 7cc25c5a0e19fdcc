"""Parametrises tests by `workload` (each object that creates pods), `variant` (each set of values) and `env`."""

from __future__ import annotations

import pytest

from tests.kit.rendering import ENVIRONMENTS, VARIANTS, every_workload


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "workload" in metafunc.fixturenames:
        metafunc.parametrize("workload", every_workload(), ids=str)
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", VARIANTS)
    if "env" in metafunc.fixturenames:
        metafunc.parametrize("env", ENVIRONMENTS)
